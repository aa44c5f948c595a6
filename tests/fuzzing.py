"""Files that are valid but for one thing, with their checksums made anew, and what has to hold of each kind.

A target makes a valid file, breaks it in its structure or in its bytes, and uses what comes of that as tbft
does. It may work, or be refused by a TbftError; anything else is a finding.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import pickle
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import striped
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from tbft import container
from tbft.blocks import split
from tbft.blocks.tensors import fingerprint
from tbft.data import read
from tbft.data.class_map_files import find_class_map
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_samples
from tbft.diagnosis.gathering import gather
from tbft.errors import TbftError
from tbft.metering.meterlog import read_log
from tbft.metering.profile import load_profile, shipped_profiles
from tbft.models import read_state
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch
from tbft.patches.installed import read_installed
from tbft.patches.keys import read_private, read_public
from tbft.patches.log import Entry, Log
from tbft.tuning.checksummed import ChecksumWriter
from tbft.tuning.loop import EpochRecord, FitState
from tbft.tuning.resume import PURPOSE, load_run
from tbft.tuning.row_file import find_rows, write_rows
from tbft.verification.running import predict

Draw = Callable[[Any], Any]

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [5, -1, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", "\ud800", "\x1b[2J"]
    )
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        suffix: of the file's name.
        broken: draws the content of a broken one.
        use: reads the file and uses it.
    """

    suffix: str
    broken: Callable[[Draw], bytes]
    use: Callable[[Path], None]


def check(target: Target, content: bytes, folder: Path) -> None:
    """Use a file; whatever is not right has to be refused, in words that can be printed."""
    path = folder / f"it{target.suffix}"
    path.write_bytes(content)
    try:
        target.use(path)
    except TbftError as error:
        text = str(error)
        text.encode("utf-8", "backslashreplace")
        assert text and len(text) < 3000


def bytes_broken(draw: Draw, content: bytes) -> bytes:
    """A flipped bit, a cut, something put in, doubled or zeroed."""
    at = draw(st.integers(0, len(content) - 1))
    size = draw(st.sampled_from([1, 4, 8, 64, 1024]))
    part = content[at : at + size]
    return draw(
        st.sampled_from(
            [
                content[:at],
                content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :],
                content[:at] + draw(st.binary(max_size=size)) + content[at:],
                content[:at] + part + content[at:],
                content[:at] + bytes(len(part)) + content[at + size :],
                content[:at] + b"\xff" * len(part) + content[at + size :],
                content[:at] + content[at + size :],
            ]
        )
    )


def json_broken(draw: Draw, value: Any) -> Any:
    """A decoded value with one thing in it changed, taken away or added."""
    value = copy.deepcopy(value)
    inner = value
    while isinstance(inner, (dict, list)) and inner:
        keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or draw(st.booleans()):
            what = draw(st.sampled_from(["change", "remove", "add", "nest"]))
            if what == "remove":
                del inner[key]
            elif what == "add" and isinstance(inner, dict):
                inner[draw(st.text(max_size=8))] = draw(VALUES)
            elif what == "nest":
                for _ in range(draw(st.integers(1, 60))):
                    inner[key] = [inner[key]]
            else:
                inner[key] = draw(VALUES)
            return value
        inner = inner[key]
    return draw(VALUES)


def tensors_broken(draw: Draw, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which one is changed, renamed, gone or new."""
    tensors = dict(tensors)
    key = draw(st.sampled_from(sorted(tensors)))
    value = tensors.pop(key)
    what = draw(
        st.sampled_from(["gone", "renamed", "scalar", "longer", "type", "NaN", "zero", "empty", "new"])
    )
    if what == "renamed":
        tensors[draw(st.text(min_size=1, max_size=10))] = value
    elif what in ("scalar", "longer", "empty"):
        shape = {"scalar": (), "longer": (*value.shape, 1), "empty": (0,)}[what]
        tensors[key] = torch.zeros(shape, dtype=value.dtype)
    elif what == "type":
        kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
        tensors[key] = value.to(draw(st.sampled_from(kinds)))
    elif what == "NaN":
        tensors[key] = torch.full_like(value.double(), draw(st.sampled_from([float("nan"), float("-inf")])))
        tensors[key] = tensors[key].to(value.dtype)
    elif what == "zero":
        tensors[key] = torch.zeros_like(value)
    elif what == "new":
        tensors |= {key: value, draw(st.text(min_size=1, max_size=10)): torch.zeros(3)}
    return tensors


def any_json(value: Any) -> str:
    """JSON of a value, with what JSON does not allow where it is in there."""
    return json.dumps(value, allow_nan=True)


# --- patches -----------------------------------------------------------------------------------

torch.manual_seed(0)
MODEL = DigitsNet(3)
BASE = {key: value.clone() for key, value in MODEL.state_dict().items()}
BASE_NAME = fingerprint(BASE)
PATCH = make_patch(
    BASE,
    {"fc.bias": torch.ones(3), "conv1.0.1.num_batches_tracked": torch.tensor(7)},
    "rear",
    measured={"val_accuracy": 0.5, "wall_seconds": 3.0},
    recipe={"name": "fast", "epochs": 4},
)


def _patch(draw: Draw) -> bytes:
    header = json.loads(container.header_text(asdict(PATCH.header)))
    return _broken(draw, "patch", PATCH, header)


def _broken(draw: Draw, kind: str, valid: Patch | SourceCard, header: Any) -> bytes:
    """A patch or a card, broken in its bytes, in its header or in its tensors."""
    if draw(st.booleans()):
        return bytes_broken(draw, valid.to_bytes())
    if draw(st.booleans()):
        return _sealed(kind, json_broken(draw, header), dict(valid.tensors), draw)
    return _sealed(kind, header, tensors_broken(draw, dict(valid.tensors)), draw)


def _sealed(kind: str, header: Any, tensors: dict[str, torch.Tensor], draw: Draw) -> bytes:
    """A container with a right checksum, whatever the header is."""
    text = any_json(header)
    notes = {"tbft_signature": any_json(draw(VALUES))} if draw(st.integers(0, 9)) == 0 else {}
    own = {key: value.contiguous() for key, value in tensors.items()}
    return bytes(save(own, {f"tbft_{kind}": text, "sha256": container.seal(text, own), **notes}))


def _use_patch(path: Path) -> None:
    """It is refused and the model as before, or applied, leads where it says, and is undone."""
    try:
        patch = Patch.load(path)
        undo = patch.apply(MODEL)
    except TbftError:
        assert fingerprint(MODEL.state_dict()) == BASE_NAME
        raise
    assert fingerprint(MODEL.state_dict()) == patch.header.tuned_fingerprint
    assert all(torch.isfinite(value).all() for value in MODEL.state_dict().values())
    undo.apply(MODEL)
    assert fingerprint(MODEL.state_dict()) == BASE_NAME
    Patch.load(path).to_bytes()


# --- cards, checkpoints, logs ------------------------------------------------------------------

_SOURCE = striped(120)
_PREDICTED = predict(MODEL, _SOURCE).argmax(1).numpy()
CARD = card_of_samples(split(MODEL), replace(_SOURCE, labels=_PREDICTED))


def _card(draw: Draw) -> bytes:
    content = CARD.to_bytes()
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + header_size])["__metadata__"]["tbft_card"])
    return _broken(draw, "card", CARD, header)


def _use_card(path: Path) -> None:
    card = SourceCard.load(path)
    assert 0 <= card.accuracy <= 1 and card.sample_count >= 0
    gather(split(MODEL), striped(30), card)


def _installed(draw: Draw) -> bytes:
    entry = Entry(BASE_NAME, PATCH.header.tuned_fingerprint, "rear")
    log = json_broken(draw, json.loads(json.dumps(asdict(Log((entry,), 3)))))
    state = {key: value.contiguous() for key, value in PATCH.applied_to(BASE).items()}
    if draw(st.integers(0, 3)) == 0:
        return bytes_broken(draw, bytes(save(state, {"tbft_log": any_json(log)})))
    return bytes(save(state, {"tbft_log": any_json(log)}))


def _use_installed(path: Path) -> None:
    found = read_installed(path)
    for entry in found.log.entries:
        assert found.undo_file(entry) is None
    assert not found.log.entries or found.log.entries[-1].tuned == found.fingerprint


def _checkpoint(draw: Draw) -> bytes:
    blob = io.BytesIO()
    state: Any = draw(st.sampled_from([BASE, {"state_dict": BASE, "epoch": 3}, {"model": {"a": BASE}}]))
    torch.save(state, blob)
    return bytes_broken(draw, blob.getvalue())


def _resume(draw: Draw) -> bytes:
    own = DigitsNet(3)
    optimizer = torch.optim.AdamW(own.parameters())
    state = FitState([EpochRecord(1, 0.5, None, None)], 1, BASE, BASE, optimizer.state_dict())
    content: dict[str, Any] = {
        **vars(state),
        "history": [asdict(r) for r in state.history],
        "run": {"seed": 1},
    }
    part = draw(
        st.sampled_from(["bytes", "history", "best", "model", "optimizer", "run", "best_epoch", "any"])
    )
    if part in ("best", "model"):
        content[part] = tensors_broken(draw, content[part])
    elif part in ("history", "optimizer", "run"):
        content[part] = json_broken(draw, content[part])
    elif part == "best_epoch":
        content[part] = draw(VALUES)
    elif part == "any":
        content[draw(st.sampled_from(sorted(content)))] = draw(VALUES)
    file = io.BytesIO()
    writer = ChecksumWriter(file, PURPOSE)
    torch.save(content, writer)
    writer.finish()
    return bytes_broken(draw, file.getvalue()) if part == "bytes" else file.getvalue()


def _use_resume(path: Path) -> None:
    own = DigitsNet(3)
    optimizer = torch.optim.AdamW(own.parameters())
    state = load_run(path, {"seed": 1}, own, optimizer)
    assert state is not None
    own.load_state_dict(state.best)
    optimizer.load_state_dict(state.optimizer)


def _rows(draw: Draw) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.npy"
        write_rows(path, (6, 5), [np.arange(30, dtype=np.float16).reshape(6, 5)])
        content = path.read_bytes()
    broken = bytes_broken(draw, content)
    if draw(st.booleans()):  # with a checksum of its own
        broken = bytes_broken(draw, content[:-78])
        digest = hashlib.sha256(b"it.npy" + broken).hexdigest()
        broken += f"\ntbft sha256 {digest}\n".encode()
    return broken


def _use_rows(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = find_rows(path, (6, 5))
    if rows is None:
        assert not path.exists()
    else:
        assert rows[np.array([5, 0])].shape == (2, 5)


# --- JSON, keys, data --------------------------------------------------------------------------


def json_of(value: Any) -> Callable[[Draw], bytes]:
    def broken(draw: Draw) -> bytes:
        if draw(st.integers(0, 3)) == 0:
            return bytes_broken(draw, any_json(value).encode())
        return any_json(json_broken(draw, value)).encode()

    return broken


CLASS_MAP = {
    "superclasses": [
        {"label": 0, "name": "cat", "source": ["a", {"wnid": "b", "name": "tabby"}], "target": ["c"]},
        {"label": 1, "name": "dog", "source": ["d"], "target": []},
    ]
}
KEY_LINE = b"tbft-ed25519 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= workshop\n"


def _npz() -> bytes:
    blob = io.BytesIO()
    samples = striped(12)
    np.savez(blob, images=samples.inputs, labels=samples.labels, subject=np.arange(12) % 4)
    return blob.getvalue()


def _tar() -> bytes:
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w") as archive:
        for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
            picture = io.BytesIO()
            Image.fromarray(striped(1).inputs[0, ..., 0]).save(picture, "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = len(picture.getvalue())
            archive.addfile(entry, io.BytesIO(picture.getvalue()))
    return blob.getvalue()


def _bytes_of(content: bytes) -> Callable[[Draw], bytes]:
    return lambda draw: bytes_broken(draw, content)


def _zip() -> bytes:
    blob = io.BytesIO()
    with (
        zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as archive,
        tarfile.open(fileobj=io.BytesIO(_tar())) as tar,
    ):
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            archive.writestr(member.name, content.read())
    return blob.getvalue()


def _table_broken(text: str) -> Callable[[Draw], bytes]:
    """A table of which a cell is replaced, or whose bytes are broken."""

    def broken(draw: Draw) -> bytes:
        if draw(st.booleans()):
            return bytes_broken(draw, text.encode())
        rows = [line.split(",") for line in text.splitlines()]
        row = rows[draw(st.integers(0, len(rows) - 1))]
        words = ["nan", "-inf", "1e999", "9" * 400, "", "\x1b[2J", '"', ",", "\n", "\0", "-1", "=1+1"]
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(words) | st.text(max_size=8))
        return "\n".join(",".join(cells) for cells in rows).encode("utf-8", "surrogatepass")

    return broken


METER_LOG = "time,watts,marker\n" + "".join(f"{t},{3 + t % 2},{'x' if t == 2 else ''}\n" for t in range(12))
FEATURES = "f1,f2,f3,label\n" + "".join(f"{i % 5},{i % 3},{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(20))


def _use_log(path: Path) -> None:
    log = read_log(path)
    found = log.between(log.times[0], log.times[-1])
    assert np.isfinite(found.joules) and found.longest_gap_seconds >= 0


def _cifar() -> bytes:
    pictures = np.arange(10 * 3072, dtype=np.uint32).astype(np.uint8).reshape(10, 3072)
    return pickle.dumps({b"data": pictures, b"labels": list(range(10)), b"filenames": [b"a.png"] * 10}, 2)


def _use_cifar(path: Path) -> None:
    folder = path.parent / "cifar-10-batches-py"
    folder.mkdir(exist_ok=True)
    (folder / "test_batch").write_bytes(path.read_bytes())
    _use_data(folder)


def _safetensors(draw: Draw) -> bytes:
    content = {key: value.contiguous() for key, value in BASE.items()}
    if draw(st.booleans()):
        content = {key: value.contiguous() for key, value in tensors_broken(draw, content).items()}
    return bytes_broken(draw, bytes(save(content, {"tbft_fingerprint": BASE_NAME})))


def _use_checkpoint(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = read_state(path)
    assert (
        fingerprint(state) == BASE_NAME
        or path.suffix != ".safetensors"
        or b"tbft_fingerprint" not in (path.read_bytes())
    )


def _private_key() -> bytes:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return secret.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _use_data(path: Path) -> None:
    samples = read(path)
    x, y = samples.batch(slice(0, len(samples)))
    assert torch.isfinite(x).all() and len(x) == len(y)


TARGETS = {
    "patch": Target(".safetensors", _patch, _use_patch),
    "card": Target(".safetensors", _card, _use_card),
    "log": Target(".safetensors", _installed, _use_installed),
    "checkpoint": Target(".pt", _checkpoint, lambda path: read_state(path) and None),
    "resume": Target(".resume.pt", _resume, _use_resume),
    "cache": Target(".npy", _rows, _use_rows),
    "profile": Target(
        ".json",
        json_of(asdict(next(iter(shipped_profiles().values())))),
        lambda path: load_profile(path).estimate(1.0, 1.0) and None,
    ),
    "class map": Target(".json", json_of(CLASS_MAP), lambda path: find_class_map(path) and None),
    "public key": Target(".pub", _bytes_of(KEY_LINE), lambda path: read_public(path) and None),
    "private key": Target(".key", _bytes_of(_private_key()), lambda path: read_private(str(path)) and None),
    "safetensors": Target(".safetensors", _safetensors, _use_checkpoint),
    "meter log": Target(".csv", _table_broken(METER_LOG), _use_log),
    "table": Target(".csv", _table_broken(FEATURES), _use_data),
    "zip": Target(".zip", _bytes_of(_zip()), _use_data),
    "cifar": Target(".pickle", _bytes_of(_cifar()), _use_cifar),
    "npz": Target(".npz", _bytes_of(_npz()), _use_data),
    "tar": Target(".tar", _bytes_of(_tar()), _use_data),
}
