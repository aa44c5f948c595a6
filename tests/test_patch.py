"""base + patch = tuned and back, bit for bit; anything else is refused and nothing is changed."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from tbft.blocks.state import clone_state
from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.container import to_bytes
from tbft.errors import PatchError, WriteError
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch

CHANGE = {
    "fc.bias": torch.tensor([1.0, -0.0, 1e-40]),
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


def test_wrapped_models_are_patched_inside(model, patch):
    base = fingerprint(model.state_dict())
    parallel = nn.DataParallel(model)
    for wrapped in (
        parallel,
        torch.compile(model, backend="eager"),
        torch.compile(parallel, backend="eager"),
    ):
        undo = patch.apply(wrapped)
        assert fingerprint(model.state_dict()) == patch.header.tuned_fingerprint
        undo.apply(wrapped)
        assert fingerprint(model.state_dict()) == base


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


def test_tied_weights_are_saved_applied_and_undone(tmp_path):
    tied = Tied()
    base = fingerprint(tied.state_dict())
    value = torch.ones(3, 3)
    made = make_patch(tied.state_dict(), {"a.weight": value, "b.weight": value}, "full")
    made.save(tmp_path / "p.safetensors")
    undo = Patch.load(tmp_path / "p.safetensors").apply(tied)
    assert tied.b.weight is tied.a.weight and bool((tied.b.weight == 1).all())
    undo.save(tmp_path / "undo.safetensors")
    Patch.load(tmp_path / "undo.safetensors").apply(tied)
    assert fingerprint(tied.state_dict()) == base
    apart = make_patch(tied.state_dict(), {"a.weight": value}, "full")
    with pytest.raises(PatchError, match=r"shares memory .* nothing was changed"):
        apart.apply(tied)
    assert fingerprint(tied.state_dict()) == base


def test_applied_gives_the_tuned_model_inside_and_the_base_outside(model, patch):
    base = fingerprint(model.state_dict())
    with pytest.raises(ZeroDivisionError), patch.applied(nn.DataParallel(model)) as tuned:
        assert fingerprint(model.state_dict()) == patch.header.tuned_fingerprint
        tuned(torch.rand(4, 1, 8, 8))  # in training mode: moves the statistics
        _ = 1 / 0
    assert fingerprint(model.state_dict()) == base


@pytest.mark.parametrize("fails_at", range(3))
def test_what_fails_midway_leaves_the_model_as_it_was(fails_at, model, monkeypatch):
    state = model.state_dict()
    changed = {key: torch.full_like(state[key], 1) for key in list(state)[:3]}
    made, before = make_patch(state, changed, "full"), fingerprint(state)
    copy, done = torch.Tensor.copy_, []

    def failing(target, value):
        done.append(1)
        if len(done) == fails_at + 1:
            raise KeyboardInterrupt
        return copy(target, value)

    monkeypatch.setattr(torch.Tensor, "copy_", failing)
    with pytest.raises(KeyboardInterrupt):
        made.apply(model)
    assert fingerprint(model.state_dict()) == before


FORGERIES = {
    "not a number": lambda t: {**t, "fc.bias": torch.full((3,), float("nan"))},
    "infinite": lambda t: {**t, "fc.bias": torch.full((3,), float("inf"))},
    "another shape": lambda t: {**t, "fc.bias": torch.zeros(4)},
    "a scalar that would broadcast": lambda t: {**t, "fc.bias": torch.zeros(())},
    "another type": lambda t: {**t, "fc.bias": t["fc.bias"].double()},
    "nothing": lambda t: {},
    "one less": lambda t: {"fc.bias": t["fc.bias"]},
    "one more": lambda t: {**t, "fc.weight": torch.zeros(3, 256)},
    "a stranger": lambda t: {**t, "fc2.bias": torch.zeros(3)},
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_patches_are_refused_wherever_they_are_applied(
    kind, model, patch, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ten = DigitsNet(10)
    genuine = make_patch(ten.state_dict(), {**CHANGE, "fc.bias": torch.ones(10)}, "rear")
    save_file(clone_state(ten), "base.safetensors")
    np.savez("set.npz", x=np.zeros((4, 8, 8, 1), np.uint8), y=np.zeros(4, int))
    for own, made in ((model, patch), (ten, genuine)):
        forged = Patch(made.header, FORGERIES[kind](made.tensors))
        forged.save("forged.safetensors")  # with a checksum of its own
        before = fingerprint(own.state_dict())
        for apply in (forged.apply, Patch.load("forged.safetensors").apply):
            with pytest.raises(PatchError):
                apply(own)
        for apply in (forged.applied_to, forged.verify):
            with pytest.raises(PatchError):
                apply(own.state_dict())
        with pytest.raises(PatchError), forged.applied(own):
            pass
        assert fingerprint(own.state_dict()) == before
    files = sorted(tmp_path.iterdir())
    for command in (
        "patch verify forged.safetensors --weights base.safetensors",
        "patch apply forged.safetensors --weights base.safetensors --out tuned.safetensors",
        "evaluate digits --weights base.safetensors --patch forged.safetensors --data set.npz",
    ):
        assert main(command.split()) == 2, command
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == files


def test_what_is_not_finite_never_becomes_a_patch(model):
    with pytest.raises(PatchError, match=r"NaN or infinity in fc\.bias"):
        make_patch(model.state_dict(), {"fc.bias": torch.full((3,), float("nan"))}, "rear")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("measured", {"val_accuracy": 5}),
        ("measured", {"wall_seconds": -1.0}),
        ("measured", {"samples": 10**400}),
        ("measured", "much"),
        ("base_fingerprint", "short"),
        ("created", "yesterday"),
        ("arm", 3),
        ("arm", ""),
        ("level", "\ud800"),
        ("cuts", "fc"),
        ("versions", {"tbft": 1}),
        ("undoes", 1),
        ("format_version", 99),
        ("format_version", True),
        ("surprise", None),
    ],
)
def test_headers_are_typed(field, value, patch, tmp_path):
    header = {**asdict(patch.header), field: value}
    (tmp_path / "p.safetensors").write_bytes(to_bytes("patch", header, patch.tensors))
    with pytest.raises(PatchError, match=r"is not usable|format version"):
        Patch.load(tmp_path / "p.safetensors")


def test_states_without_values_are_refused_in_words(patch):
    for model in (nn.LazyLinear(3), nn.Linear(2, 2, device="meta")):
        with pytest.raises(PatchError, match="has no values yet"):
            patch.apply(model)
    with pytest.raises(PatchError, match="is not a tensor"):
        patch.applied_to({"fc.bias": 3})


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
    from tbft.container import seal

    path = tmp_path / "p.safetensors"
    header = json.dumps({"format_version": 99})
    save_file(dict(CHANGE), path, {"tbft_patch": header, "sha256": seal(header, CHANGE)})
    with pytest.raises(PatchError, match="format version 99"):
        Patch.load(path)
    save_file(dict(CHANGE), path)
    with pytest.raises(PatchError, match="not a patch"):
        Patch.load(path)
    with pytest.raises(PatchError, match="no such patch"):
        Patch.load(tmp_path / "nowhere")


def test_saving_over_a_file_that_cannot_be_replaced_leaves_nothing_behind(patch, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match="Is a directory"):
        patch.save(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
