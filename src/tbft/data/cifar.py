"""CIFAR-10 and CIFAR-100 as published, binary or Python batches, the latter without trusting them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.members import Member
from tbft.data.samples import Samples, make_samples
from tbft.data.source import Source
from tbft.data.spec import InputSpec
from tbft.errors import DataError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
#: Their names in torch's tutorials.
_SHORT = {"airplane": "plane", "automobile": "car"}

_PIXELS = 3 * 32 * 32

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Files = Mapping[str, Callable[[], bytes]]


@dataclass(frozen=True)
class _Published:
    """A set as it is published.

    Attributes:
        batches: names of its files, to which the binary version adds ``.bin``.
        names: the file of the binary version that identifies the set and names its classes.
        label_keys: keys of the labels in a Python batch, in the order of the bytes in a binary one.
    """

    title: str
    batches: tuple[str, ...]
    names: tuple[str, str]
    label_keys: tuple[str, ...]


_CIFAR10 = _Published(
    "CIFAR-10", (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"), ("", ""), ("labels",)
)
_CIFAR100 = _Published(
    "CIFAR-100", ("train", "test"), ("meta", "fine_label_names.txt"), ("coarse_labels", "fine_labels")
)


def read_source(source: Source) -> Samples | None:
    """Samples of a folder, an archive or a file of a published set."""
    files = find_cifar(source.path)
    if not files and source.listing is not None:
        files = cifar_members(source.listing.others)
    return read_cifar(files, source.name, source.spec) if files else None


def find_cifar(path: Path) -> Files:
    """The files of CIFAR-10 or CIFAR-100 that `path` names, a folder or one batch; empty if it is neither."""
    folder = path if path.is_dir() else path.parent
    known = [f"{stem}{end}" for one in (_CIFAR10, _CIFAR100) for stem in one.batches for end in ("", ".bin")]
    if path.is_file() and path.name not in known:
        return {}
    names = [*(known if path.is_dir() else [path.name]), *_CIFAR100.names, "coarse_label_names.txt"]
    return cifar_files({n: (folder / n).read_bytes for n in names if n and (folder / n).is_file()})


def cifar_members(members: Iterable[Member]) -> Files:
    """The same of the files of an archive."""
    return cifar_files({m.parts[-1]: _Whole(m) for m in members})


@dataclass(frozen=True)
class _Whole:
    member: Member

    def __call__(self) -> bytes:
        return self.member.read(-1)


def cifar_files(files: Files) -> Files:
    """These files, if they are those of a published set."""
    return files if _kind(files) is not None else {}


def _kind(files: Files) -> _Published | None:
    for one in (_CIFAR10, _CIFAR100):
        named = one is _CIFAR10 or any(name in files for name in one.names)
        if named and any(f"{stem}{end}" in files for stem in one.batches for end in ("", ".bin")):
            return one
    return None


def read_cifar(files: Files, name: str, spec: InputSpec) -> Samples:
    """The samples of batches that were found; the attribute ``part`` is ``train`` or ``test``.

    Those of CIFAR-100 have the fine labels, and the coarse ones as the attribute ``coarse``.

    Raises:
        DataError: a batch is damaged, or holds what no batch does.
    """
    kind = _kind(files)
    assert kind is not None
    found = [(stem, end) for stem in kind.batches for end in ("", ".bin") if stem + end in files]
    batches = [
        (_binary if end else _python)(files[stem + end](), f"{name}: {stem}{end}", kind.label_keys)
        for stem, end in found
    ]
    pixels = np.concatenate([b[0] for b in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([b[1] for b in batches])
    lengths = [len(b[1]) for b in batches]
    parts = ["test" if stem.startswith("test") else "train" for stem, _ in found]
    attributes: dict[str, Any] = {"part": np.repeat(parts, lengths)}
    classes: tuple[str, ...] = tuple(_own_name(c, spec) for c in CIFAR10_CLASSES)
    if kind is _CIFAR100:
        classes, coarse = _class_names(files, name)
        attributes["coarse"] = np.array(coarse)[labels[:, 0]] if coarse else labels[:, 0]
    pictures = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    made = make_samples(pictures, labels[:, -1], classes, attributes, name, spec)
    absent = [stem for stem in kind.batches if stem not in {s for s, _ in found}]
    return made.noted(f"{kind.title} without {', '.join(absent)}") if absent and len(found) > 1 else made


def _own_name(name: str, spec: InputSpec) -> str:
    return _SHORT[name] if _SHORT.get(name) in (spec.class_names or ()) else name


def _binary(raw: bytes, where: str, label_keys: tuple[str, ...]) -> tuple[Pixels, Labels]:
    """Rows of a byte for each label and 3,072 pixels: all red, all green, all blue."""
    row = len(label_keys) + _PIXELS
    if not raw or len(raw) % row:
        raise DataError(f"{where}: {len(raw)} bytes are not a whole number of rows of {row}; it is cut off")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, row)
    return rows[:, len(label_keys) :], rows[:, : len(label_keys)].astype(np.int64)


def _python(raw: bytes, where: str, label_keys: tuple[str, ...]) -> tuple[Pixels, Labels]:
    batch = _unpickled(raw, where)
    try:
        pixels = np.asarray(batch["data"])
        labels = np.stack([np.asarray(batch[key], dtype=np.int64) for key in label_keys], axis=1)
    except (KeyError, TypeError, ValueError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where} is refused as a CIFAR batch: {why}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        raise DataError(f"{where}: pixels of {pixels.dtype} {pixels.shape}, expected uint8 (n, {_PIXELS})")
    return pixels, labels


def _class_names(files: Files, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fine and coarse class names of CIFAR-100; no coarse ones if the files do not say."""
    if "meta" not in files:
        texts = [
            files[f"{kind}_label_names.txt"]() if f"{kind}_label_names.txt" in files else b""
            for kind in ("fine", "coarse")
        ]
        fine, coarse = (tuple(text.decode().split()) for text in texts)
        return fine, coarse
    meta = _unpickled(files["meta"](), f"{name}: meta")
    fine, coarse = (_words(meta.get(f"{kind}_label_names", ())) for kind in ("fine", "coarse"))
    if not fine:
        raise DataError(f"{name}: meta names no classes (fine_label_names)")
    return fine, coarse


def _words(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)


class _BatchUnpickler(pickle.Unpickler):
    """Admits what a CIFAR batch holds, plain containers and NumPy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.zeros(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return _latin1_bytes
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which no CIFAR batch holds")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes at pickle protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it wants the codec {encoding!r}, which no CIFAR batch holds")
    return text.encode("latin1")


def _unpickled(raw: bytes, where: str) -> dict[str, Any]:
    try:
        batch = _BatchUnpickler(io.BytesIO(raw), encoding="bytes").load()
        return {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{where} is refused as a CIFAR batch: {error}") from error
