"""base + patch = tuned and back, bit for bit; anything else is refused and nothing is changed."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tbft.blocks.state import clone_state
from tbft.blocks.tensors import fingerprint
from tbft.errors import CheckpointError, PatchError
from tbft.models import find_model, load_weights, read_state, with_counters
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch

CHANGE = {
    "fc.bias": torch.tensor([1.0, -0.0, float("nan")]),
    "conv1.0.1.num_batches_tracked": torch.tensor(7),
}


@pytest.fixture
def model() -> DigitsNet:
    torch.manual_seed(0)
    return DigitsNet(3)


@pytest.fixture
def patch(model) -> Patch:
    return make_patch(model.state_dict(), CHANGE, "rear", block="rear", measured={"accuracy": 0.5})


def test_there_and_back_in_memory_and_through_a_file(model, patch, tmp_path):
    base = fingerprint(model.state_dict())
    patch.save(tmp_path / "user.safetensors")
    loaded = Patch.load(tmp_path / "user.safetensors")
    assert loaded.header == patch.header
    assert set(load_file(tmp_path / "user.safetensors")) == set(CHANGE)
    undo = loaded.apply(model)
    tuned = fingerprint(model.state_dict())
    assert tuned == patch.header.tuned_fingerprint == fingerprint({**model.state_dict(), **CHANGE})
    assert tuned != base
    undo.apply(model)
    assert fingerprint(model.state_dict()) == base


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(DigitsNet(3).state_dict())), st.integers(0, 99)))
def test_any_change_can_be_applied_and_undone(changes):
    model = DigitsNet(3)
    state = model.state_dict()
    changed = {k: torch.full_like(state[k], seed) for k, seed in changes.items()}
    before = fingerprint(state)
    made = make_patch(state, changed, "full")
    made.apply(model).apply(model)
    assert fingerprint(model.state_dict()) == before


def test_another_base_is_refused_and_untouched(model, patch):
    with torch.no_grad():
        model.conv2[0].weight[0, 0, 0, 0] += 1e-6
    before = fingerprint(model.state_dict())
    with pytest.raises(PatchError, match="for another base"):
        patch.apply(model)
    assert fingerprint(model.state_dict()) == before


def test_verify_checks_both_ends(model, patch):
    patch.verify(model.state_dict())
    astray = Patch(patch.header, {**patch.tensors, "fc.bias": torch.zeros(3)})
    with pytest.raises(PatchError, match="does not lead to the state it names"):
        astray.verify(model.state_dict())


def test_a_patch_is_applied_once(model, patch):
    undo = patch.apply(model)
    with pytest.raises(PatchError, match="applied already"):
        patch.apply(model)
    undo.apply(model)
    with pytest.raises(PatchError, match="undone already"):
        undo.apply(model)


def test_every_flipped_byte_and_every_cut_is_noticed(patch, tmp_path):
    blob = patch.to_bytes()
    path = tmp_path / "bad.safetensors"
    for at in [*range(8, len(blob), 97), len(blob) - 1]:
        path.write_bytes(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
        with pytest.raises(PatchError):
            Patch.load(path)
    for length in (0, 5, len(blob) // 2, len(blob) - 1):
        path.write_bytes(blob[:length])
        with pytest.raises(PatchError, match="damaged, cut off"):
            Patch.load(path)


def test_unknown_versions_and_foreign_files_are_refused(patch, tmp_path):
    from tbft.container import _seal

    path = tmp_path / "p.safetensors"
    header = json.dumps({"format_version": 99})
    save_file(dict(CHANGE), path, {"tbft_patch": header, "sha256": _seal(header, CHANGE)})
    with pytest.raises(PatchError, match="format version 99"):
        Patch.load(path)
    save_file(dict(CHANGE), path)
    with pytest.raises(PatchError, match="no patch"):
        Patch.load(path)
    with pytest.raises(PatchError, match="no such patch"):
        Patch.load(tmp_path / "nowhere")


def test_saving_over_a_file_that_cannot_be_replaced_leaves_nothing_behind(patch, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        patch.save(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


# --- checkpoints -----------------------------------------------------------------------------


def test_wrappers_and_prefixes_are_understood(model, tmp_path):
    state = clone_state(model)
    forms = {
        "plain.pth": state,
        "wrapped.pt": {"state_dict": state, "epoch": 3},
        "parallel.th": {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        "old.pt": {k: v for k, v in state.items() if "num_batches" not in k},
    }
    for name, content in forms.items():
        torch.save(content, tmp_path / name)
        assert fingerprint(with_counters(read_state(tmp_path / name))) == fingerprint(state), name
    save_file(state, tmp_path / "m.safetensors")
    assert fingerprint(read_state(tmp_path / "m.safetensors")) == fingerprint(state)


def test_a_checkpoint_of_another_architecture_is_told_apart(model, tmp_path):
    torch.save(find_model("resnet20-cifar10").build().state_dict(), tmp_path / "other.pt")
    before = fingerprint(model.state_dict())
    with pytest.raises(CheckpointError, match=r"missing: .*unexpected: .*") as caught:
        load_weights(model, tmp_path / "other.pt")
    assert "conv1.0.0.weight" in str(caught.value)
    torch.save(DigitsNet(4).state_dict(), tmp_path / "shape.pt")
    with pytest.raises(
        CheckpointError, match=r"of another shape: fc\.weight \(4, 256\) instead of \(3, 256\)"
    ):
        load_weights(model, tmp_path / "shape.pt")
    assert fingerprint(model.state_dict()) == before


class Boom:
    def __reduce__(self):
        return (print, ("owned",))


def test_another_number_format_is_refused(model, tmp_path):
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()},
        tmp_path / "h.pt",
    )
    with pytest.raises(CheckpointError, match=r"of another type: .*torch\.float16 instead of torch\.float32"):
        load_weights(model, tmp_path / "h.pt")


def test_a_malicious_checkpoint_is_not_run(model, tmp_path, capsys):
    torch.save({"state_dict": Boom()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"refused.*could run code"):
        load_weights(model, tmp_path / "evil.pth")
    (tmp_path / "noise.pth").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match=r"noise\.pth"):
        read_state(tmp_path / "noise.pth")
    assert "owned" not in capsys.readouterr().out
