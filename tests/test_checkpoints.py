"""Weights are found in the files that people have, or refused with the cause; no model is half loaded."""

from __future__ import annotations

import argparse
import collections
import gzip
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.errors import CheckpointError
from tbft.models import load_state, load_weights, read_state, read_state_for, save_weights
from tbft.models.file_content import read_content
from tbft.patches import make_patch

State = dict[str, Tensor]


class Net(nn.Module):
    """A convolution, BatchNorm, and a head; a constant outside the state dict."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, classes)
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def seeded(seed: int = 0, classes: int = 3) -> Net:
    torch.manual_seed(seed)
    return Net(classes)


STATE: State = seeded(1).state_dict()


def prefixed(prefix: str, state: State = STATE) -> State:
    return {prefix + key: value for key, value in state.items()}


def loaded(content: object, path: Path, key: str | None = None) -> tuple[str, ...]:
    """Save, load into another model, and check that every tensor is that of STATE; returns the notes."""
    torch.save(content, path / "c.pt")
    model = seeded()
    notes = load_weights(model, path / "c.pt", key)
    for name, value in model.state_dict().items():
        assert torch.equal(value, STATE[name]), name
    return notes


def refusal(content: object, path: Path, model: nn.Module | None = None, key: str | None = None) -> str:
    """Save, be refused, and check that the model is untouched; returns the message."""
    torch.save(content, path / "c.pt")
    model = seeded() if model is None else model
    before = fingerprint(model.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path / "c.pt", key)
    assert fingerprint(model.state_dict()) == before
    return str(caught.value)


# --- where the weights lie -------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["module", "_orig_mod", "model", "net", "backbone", "0", "fc"]), max_size=3
    ),
    keys=st.lists(st.sampled_from(["state_dict", "params", "teacher", "weights", "net", "a.b"]), max_size=2),
)
def test_any_prefix_under_any_key_is_found(tmp_path_factory, parts, keys):
    content: object = prefixed("".join(f"{part}." for part in parts))
    for key in keys:
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    notes = loaded(content, tmp_path_factory.mktemp("any"))
    assert bool(notes) == bool(parts or keys)


class Inside(nn.Module):
    """A model whose own names begin with `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module = Net()


def test_a_child_named_like_a_wrapper_stays(tmp_path):
    for prefix in ("module.", "", "net.module.", "_orig_mod."):
        torch.save(prefixed(prefix), tmp_path / "c.pt")
        model = Inside()
        load_weights(model, tmp_path / "c.pt")
        assert fingerprint(model.module.state_dict()) == fingerprint(STATE), prefix


def test_a_wrapper_in_the_middle_of_the_names_is_taken_out(tmp_path):
    content = {key.replace("conv.", "conv.module."): value for key, value in STATE.items()}
    assert "wrappers" in " ".join(loaded(content, tmp_path))


def test_parts_that_were_saved_apart_are_put_together(tmp_path):
    content: dict[str, dict[str, Tensor]] = {}
    for key, value in STATE.items():
        part, _, rest = key.partition(".")
        content.setdefault(part, {})[rest] = value
    assert loaded({"network": content}, tmp_path) == ("c.pt: the weights are those under 'network'",)


def test_a_trainers_file_loads_beside_its_loss_and_its_bookkeeping(tmp_path):
    content = {
        "state_dict": {**prefixed("model."), "criterion.weight": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "hyper_parameters": {"lr": 0.1},
    }
    notes = " ".join(loaded(content, tmp_path))
    assert "'state_dict.model'" in notes and "criterion.weight" in notes and "exp_avg" not in notes


def test_a_whole_pickled_model_gives_its_state_and_no_code_is_run(tmp_path):
    class_of_a_file = seeded(1)
    notes = loaded({"model": nn.DataParallel(class_of_a_file), "epoch": 1}, tmp_path)
    assert "test_checkpoints.Net" in " ".join(notes)
    read = read_content(tmp_path / "c.pt")
    assert type(read.root["model"]) is not nn.DataParallel


# --- several sets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "averaged", ["state_dict_ema", "ema", "model_ema", "g_ema", "swa_state_dict", "averaged_model"]
)
def test_averaged_weights_are_preferred_and_others_can_be_chosen(tmp_path, averaged):
    raw = seeded(2).state_dict()
    content = {"state_dict": raw, averaged: prefixed("module."), "optimizer": {}}
    notes = loaded(content, tmp_path)
    assert f"took the averaged weights '{averaged}.module' rather than 'state_dict'" in notes[0]
    model = seeded()
    load_weights(model, tmp_path / "c.pt", "state_dict")
    assert fingerprint(model.state_dict()) == fingerprint(raw)
    assert "no tensors under 'nothing'; it has some under: state_dict (9)" in refusal(
        content, tmp_path, key="nothing"
    )


def test_averaged_weights_in_the_same_mapping_and_raw_ones_at_the_top(tmp_path):
    raw = seeded(2).state_dict()
    assert len(loaded({**prefixed("net.", raw), **prefixed("ema_model.")}, tmp_path)) == 1
    assert "averaged" in loaded({**raw, **prefixed("ema_model.")}, tmp_path)[0]
    assert "averaged" in loaded({**raw, **prefixed("swa_model.module.")}, tmp_path)[0]
    assert "averaged" in loaded({**raw, "ema": STATE}, tmp_path)[0]
    model = seeded()
    load_weights(model, tmp_path / "c.pt", ".")
    assert fingerprint(model.state_dict()) == fingerprint(raw)


def test_averages_that_do_not_fit_are_named(tmp_path):
    shadow = {key: value for key, value in STATE.items() if "running" not in key and "batches" not in key}
    notes = " ".join(loaded({"model": STATE, "ema": {"decay": 0.9, "shadow": shadow}}, tmp_path))
    assert "averaged weights under ema.shadow do not fit" in notes


def test_an_optimizers_averages_are_not_weights(tmp_path):
    parameters = {k: v + 1 for k, v in STATE.items()}
    loaded({"net": STATE, "optimizer": {"exp_avg": parameters}, "grads": parameters}, tmp_path)
    model = seeded()
    load_weights(model, tmp_path / "c.pt", "grads")
    assert fingerprint(model.state_dict()) == fingerprint(parameters)


def test_two_sets_that_fit_alike_have_to_be_chosen_from(tmp_path):
    content = {"student": seeded(2).state_dict(), "teacher": STATE}
    said = refusal(content, tmp_path)
    assert "holds 2 sets of weights that fit" in said and "--weights-key student" in said
    loaded(content, tmp_path, key="teacher")
    loaded({"last": STATE, "best": {k: v.clone() for k, v in STATE.items()}}, tmp_path)  # the same twice


def test_the_averaged_model_of_torch_loads(tmp_path):
    assert "n_averaged" in " ".join(loaded(AveragedModel(seeded(1)).state_dict(), tmp_path))


# --- what lies beside them -------------------------------------------------------------------


class Settings(dict):
    """A dict of a class that the reader does not have."""


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=1),
        np.float64(0.9),
        np.zeros(3),
        collections.defaultdict(list, a=[1]),
        collections.deque([1.0], maxlen=5),
        Path("runs"),
        Settings(lr=1),
        frozenset([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_metadata_beside_the_weights_does_no_harm(tmp_path, beside, legacy):
    torch.save(
        {"model": STATE, "extra": beside}, tmp_path / "c.pt", _use_new_zipfile_serialization=not legacy
    )
    model, allowed = seeded(), len(torch.serialization.get_safe_globals())
    assert "not unpickled, as it is not needed" in load_weights(model, tmp_path / "c.pt")[-1]
    assert fingerprint(model.state_dict()) == fingerprint(STATE)
    assert len(torch.serialization.get_safe_globals()) == allowed


class Call:
    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> object:
        return self.call


def test_a_file_that_asks_for_code_is_refused(tmp_path, capfd):
    mark = tmp_path / "mark"
    for function, *args in (
        (print, "owned"),
        (eval, "print('owned')"),
        (subprocess.call, ["touch", str(mark)]),
        (getattr(__import__("os"), "system"), f"touch {mark}"),  # noqa: B009
    ):
        said = refusal({"model": STATE, "extra": Call(function, *args)}, tmp_path)
        assert "could run code" in said and function.__name__ in said
    refusal(Call(Path.touch, mark), tmp_path)
    assert "owned" not in capfd.readouterr().out and not mark.exists()


def test_containers_without_end_are_refused(tmp_path):
    deep: list[object] = []
    for _ in range(40):
        deep = [deep, deep]
    assert "nest without end" in refusal({"model": STATE, "more": deep}, tmp_path)
    cycle: dict[str, object] = {"model": STATE}
    cycle["self"] = cycle
    loaded(cycle, tmp_path)


def test_a_tensor_or_a_number_alone_is_not_a_state_dict(tmp_path):
    for content in (torch.ones(3), 3, None, "text", [], {"epoch": 1}, {"w": np.ones(2)}):
        assert "holds no state dict" in refusal(content, tmp_path)


def test_leftovers_of_profilers_are_left_out_and_named(tmp_path):
    left = {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1), "scale": torch.tensor([2.0])}
    notes = " ".join(loaded({**STATE, **left}, tmp_path))
    assert all(name in notes for name in left)
    said = refusal({**STATE, "scale": torch.tensor([3.0])}, tmp_path)
    assert "1 unexpected: scale" in said  # the model would compute with another constant


def test_a_larger_network_is_not_cut_down_in_silence(tmp_path):
    said = refusal({**STATE, "conv.2.weight": torch.ones(2), "bn2.weight": torch.ones(2)}, tmp_path)
    assert "2 unexpected: conv.2.weight, bn2.weight; is it for a larger model?" in said


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_becomes_the_models_and_is_named(tmp_path, kind):
    torch.save({k: v.to(kind) if v.is_floating_point() else v for k, v in STATE.items()}, tmp_path / "c.pt")
    model = seeded()
    name = str(kind).removeprefix("torch.")
    assert f"converted from {name} to float32" in " ".join(load_weights(model, tmp_path / "c.pt"))
    for key, value in model.state_dict().items():
        assert torch.equal(value, STATE[key].to(kind).to(value.dtype))


def test_weights_that_are_not_finite_are_named(tmp_path):
    torch.save({**STATE, "fc.bias": torch.tensor([0.0, torch.nan, 1.0])}, tmp_path / "c.pt")
    assert "NaN or infinity in fc.bias" in load_weights(seeded(), tmp_path / "c.pt")[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_wrapped_model_takes_the_plain_weights(tmp_path):
    for wrap in (nn.DataParallel, torch.compile, AveragedModel):
        torch.save(STATE, tmp_path / "c.pt")
        model = seeded()
        assert load_weights(wrap(model), tmp_path / "c.pt") == ()
        if wrap is not AveragedModel:  # which has a copy
            assert fingerprint(model.state_dict()) == fingerprint(STATE)


def test_another_kind_of_number_or_one_that_overflows_is_refused(tmp_path):
    assert "1 of another type: fc.bias torch.int64 instead of torch.float32" in refusal(
        {**STATE, "fc.bias": torch.ones(3, dtype=torch.long)}, tmp_path
    )
    assert "float32 instead of torch.float16" in refusal(
        {**STATE, "fc.bias": torch.full((3,), 1e6)}, tmp_path, seeded().half()
    )


def test_a_checkpoint_of_another_model_says_what_differs(tmp_path):
    said = refusal(seeded(classes=4).state_dict(), tmp_path)
    assert "2 of another shape: fc.weight (4, 2) instead of (3, 2), fc.bias (4,) instead of (3,)" in said
    assert "build the model with the classes" in said
    assert "2 missing: fc.weight, fc.bias" in refusal(
        {k: v for k, v in STATE.items() if "fc" not in k}, tmp_path
    )
    assert "none of the model's names is in it; it has tensors under: g (1)" in refusal(
        {"g": {"w": torch.ones(1)}}, tmp_path
    )


def test_counters_that_old_checkpoints_lack_are_zero(tmp_path):
    torch.save({k: v for k, v in STATE.items() if "num_batches" not in k}, tmp_path / "c.pt")
    assert load_weights(seeded(), tmp_path / "c.pt") == ()


def test_sparse_tensors_become_dense(tmp_path):
    assert loaded({**STATE, "fc.weight": STATE["fc.weight"].to_sparse()}, tmp_path) == ()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.b.weight = self.a.weight


def test_tied_weights_may_be_saved_once_or_twice_but_not_as_two_values(tmp_path):
    model = Tied()
    save_weights(model.state_dict(), tmp_path / "twice.safetensors")
    load_weights(model, tmp_path / "twice.safetensors")
    state = {k: v.clone() + 1 for k, v in model.state_dict().items() if k != "b.weight"}
    save_file(state, tmp_path / "c.safetensors")
    load_weights(model, tmp_path / "c.safetensors")
    assert torch.equal(model.b.weight, state["a.weight"])
    assert "tied weights" in refusal({**state, "b.weight": state["a.weight"] + 1}, tmp_path, model)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_what_torch_renames_while_loading_is_loaded(tmp_path):
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 3)))
    new, by_torch = (nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 3))) for _ in range(2))
    by_torch.load_state_dict(old.state_dict())
    torch.save({"state_dict": prefixed("net.", old.state_dict())}, tmp_path / "c.pt")
    assert "2 tensors renamed by torch" in load_weights(new, tmp_path / "c.pt")[0]
    assert fingerprint(new.state_dict()) == fingerprint(by_torch.state_dict())
    said = refusal({**old.state_dict(), "0.extra": torch.ones(1)}, tmp_path, new)
    assert "2 missing: 0.parametrizations" in said


def test_lazy_layers_take_their_shapes_from_the_file(tmp_path):
    model = nn.Sequential(nn.LazyLinear(3))
    torch.save({"0.weight": torch.ones(3, 5), "0.bias": torch.zeros(3)}, tmp_path / "c.pt")
    load_weights(model, tmp_path / "c.pt")
    assert model[0].weight.shape == (3, 5)


def test_a_state_in_memory_loads_the_same_way():
    model = seeded()
    assert load_state(model, prefixed("net.")) == ("the weights are those under 'net'",)
    assert fingerprint(model.state_dict()) == fingerprint(STATE)
    with pytest.raises(CheckpointError, match="meta device"):
        load_state(Net().to("meta"), STATE)


# --- files of another kind -------------------------------------------------------------------


def archive(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path / "z", "w") as file:
        file.writestr(name, "x")
    return (path / "z").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b"\n<html>", "is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (gzip.compress(b"x"), "gzip archive: unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(20), "TensorFlow Lite"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(20), "ONNX"),
        (b'{"metadata": {}, "weight_map": {}}', "index of a checkpoint in parts"),
        (b"\x80\x04\x95" + bytes(20), "a Python pickle that torch.save did not write"),
        (bytes(100), "damaged, or not a"),
        (b"PK\x03\x04" + bytes(50), "cut off or damaged"),
        (b"epochs: 3\nlr: 0.1\n", "is a text"),
        (b"\x93NUMPY\x01\x00" + bytes(50), "NumPy array"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
        (b"\x01\x02\x03" * 40, "damaged, or not a checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_of_another_kind_is_named(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(seeded(), tmp_path / name)
    assert "weights_only" not in str(caught.value)


def test_archives_of_another_kind_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    (tmp_path / "k.pth").write_bytes(archive(tmp_path, "model.weights.h5"))
    (tmp_path / "w.pth").write_bytes(archive(tmp_path, "weights/base.pth"))
    (tmp_path / "folder").mkdir()
    torch.save(STATE, tmp_path / "folder" / "base.pth")
    for name, message in (
        ("a.npz", "NumPy archive"),
        ("k.pth", "Keras"),
        ("w.pth", "zip archive of weights/base.pth: unpack"),
        ("folder", "is a folder: give a file in it: base.pth"),
        ("nowhere.pt", "no such checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_state(tmp_path / name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.save(torch.jit.trace(seeded().eval(), torch.zeros(1, 1, 4, 4)), tmp_path / "s.pt")
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive: .*torch\.save"):
        load_weights(seeded(), tmp_path / "s.pt")


def test_the_name_of_a_file_does_not_matter(tmp_path):
    save_file(STATE, tmp_path / "x.bin")
    torch.save(STATE, tmp_path / "x.safetensors")
    for name in ("x.bin", "x.safetensors"):
        model = seeded()
        load_weights(model, tmp_path / name)
        assert fingerprint(model.state_dict()) == fingerprint(STATE)
    blob = (tmp_path / "x.bin").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(blob[: len(blob) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(seeded(), tmp_path / "cut.safetensors")


def test_a_patch_given_as_a_checkpoint_is_recognized(tmp_path):
    patch = make_patch(STATE, {"fc.bias": torch.ones(3)}, "rear")
    patch.save(tmp_path / "p.safetensors")
    with pytest.raises(CheckpointError, match="is a tbft patch, not a checkpoint: give it with --patch"):
        load_weights(seeded(), tmp_path / "p.safetensors")


# --- without the model -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": prefixed("_orig_mod."), "epoch": 1},
        {"state_dict": seeded(2).state_dict(), "ema": prefixed("module.")},
        {k: v for k, v in STATE.items() if "num_batches" not in k},
        {**prefixed("model."), "criterion.weight": torch.ones(3), "model.total_ops": torch.ones(1)},
        {k.replace("conv.", "conv._orig_mod."): v for k, v in STATE.items()},
    ],
)
def test_a_patch_finds_its_base_in_a_file(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    patch = make_patch(STATE, {"fc.bias": torch.ones(3), "bn.running_var": torch.ones(2)}, "rear")
    found = read_state_for(tmp_path / "c.pt", patch.tensors, {patch.header.base_fingerprint})
    patch.verify(found)


def test_a_patch_finds_its_base_in_half_precision_and_inside_a_child(tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}
    base = {k: v.float() if v.dtype == torch.float16 else v for k, v in half.items()}
    torch.save(half, tmp_path / "h.pt")
    assert fingerprint(read_state_for(tmp_path / "h.pt", ["fc.bias"], {fingerprint(base)})) == fingerprint(
        base
    )
    inside = prefixed("module.")
    torch.save(STATE, tmp_path / "c.pt")
    found = read_state_for(tmp_path / "c.pt", ["module.fc.bias", "module.bn.weight"], {fingerprint(inside)})
    assert fingerprint(found) == fingerprint(inside)


def test_a_base_that_is_not_in_the_file_leaves_the_likeliest_state(tmp_path):
    torch.save({"state_dict": prefixed("module.")}, tmp_path / "c.pt")
    found = read_state_for(tmp_path / "c.pt", ["fc.bias"], {"another"})
    assert fingerprint(found) == fingerprint(STATE)
    assert set(read_state(tmp_path / "c.pt")) == set(prefixed("module."))
    torch.save({"a": STATE, "b": STATE}, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match="several sets of tensors"):
        read_state(tmp_path / "two.pt")


def test_notes_and_the_key_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
    )
    np.savez("d.npz", x=np.zeros((4, 4), np.float32), y=np.array([0, 0, 1, 1]))
    raw, averaged = ({"1.weight": torch.zeros(2, 4), "1.bias": torch.tensor(b)} for b in ([0.0, 1], [1.0, 0]))
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, "c.pt")
    command = ["evaluate", "shop:net", "--cuts", "1", "--data", "d.npz", "--json", "--weights", "c.pt"]
    assert main(command) == 0
    assert "note: c.pt: took the averaged weights 'state_dict_ema'" in capsys.readouterr().err
    assert main([*command, "--weights-key", "state_dict"]) == 0
    assert "averaged" not in capsys.readouterr().err
    assert main([*command[:-2], "--weights-key", "state_dict"]) == 2
    assert "--weights FILE" in capsys.readouterr().err
