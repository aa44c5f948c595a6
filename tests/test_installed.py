"""Patches on checkpoint files: put on in order, taken off in order, and never half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.errors import CheckpointError, PatchError, WriteError
from tbft.models import read_state, save_weights
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch
from tbft.patches.installed import put_on, read_installed, take_off


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A base, and three patches of which each goes on top of the one before."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = DigitsNet(10).state_dict()
    torch.save(state, "base.pt")
    for i in (1, 2, 3):
        changed = {"fc.bias": torch.full((10,), float(i))}
        make_patch(state, changed, "rear").save(f"p{i}.safetensors")
        state = {**state, **changed}
    return tmp_path


def stack(*names: str) -> None:
    """Put patches on, the first on the base and the others in place."""
    weights = "base.pt"
    for name in names:
        put_on(Patch.load(f"{name}.safetensors"), weights, "device.safetensors")
        weights = "device.safetensors"


def test_a_stack_is_undone_in_order_to_the_base_bit_for_bit(place, capsys):
    stack("p1", "p2", "p3")
    for left in (2, 1, 0):
        assert main(["patch", "log", "device.safetensors", "--json"]) == 0
        patches = json.loads(capsys.readouterr().out)["patches"]
        assert len(patches) == left + 1
        assert all(Path(p["undo"]).exists() for p in patches)
        assert main(["patch", "revert", "--weights", "device.safetensors"]) == 0
        assert load_file("device.safetensors")["fc.bias"][0] == left or left == 0
        capsys.readouterr()
    assert fingerprint(load_file("device.safetensors")) == fingerprint(read_state("base.pt"))
    assert main(["patch", "revert", "--weights", "device.safetensors"]) == 2
    assert "no patch on it" in capsys.readouterr().err


def test_a_patch_below_the_top_is_not_taken_off(place, capsys):
    stack("p1", "p2")
    before = Path("device.safetensors").read_bytes()
    assert main("patch revert p1.safetensors --weights device.safetensors".split()) == 2
    assert "not the last patch" in capsys.readouterr().err
    assert Path("device.safetensors").read_bytes() == before
    assert main("patch revert p2.safetensors --weights device.safetensors".split()) == 0
    assert main("patch revert p1.safetensors --weights device.safetensors".split()) == 0


def test_writing_over_another_result_leaves_an_undo_that_fits(place):
    stack("p1", "p2")
    put_on(Patch.load("p1.safetensors"), "base.pt", "device.safetensors")
    take_off("device.safetensors", "device.safetensors")
    assert fingerprint(load_file("device.safetensors")) == fingerprint(read_state("base.pt"))


def test_a_copy_in_another_folder_can_be_undone_all_the_way(place):
    stack("p1")
    Path("other").mkdir()
    put_on(Patch.load("p2.safetensors"), "device.safetensors", "other/device.safetensors")
    for _ in range(2):
        take_off("other/device.safetensors", "other/device.safetensors")
    assert fingerprint(load_file("other/device.safetensors")) == fingerprint(read_state("base.pt"))


def test_a_link_to_the_file_finds_what_undoes_its_patches(place):
    Path("store").mkdir()
    Path("device.safetensors").symlink_to("store/v1.safetensors")
    stack("p1", "p2")
    assert Path("device.safetensors").is_symlink()
    for path in ("store/v1.safetensors", "device.safetensors"):
        take_off(path, path)
    assert fingerprint(load_file("device.safetensors")) == fingerprint(read_state("base.pt"))


def test_a_file_without_its_log_is_undone_by_its_fingerprint(place):
    stack("p1")
    torch.save(load_file("device.safetensors"), "device.pt")
    take_off("device.pt", "again.safetensors")
    assert fingerprint(load_file("again.safetensors")) == fingerprint(read_state("base.pt"))


def test_what_lacks_its_undo_file_says_which(place):
    stack("p1")
    for undo in place.glob("*.undo"):
        undo.rename("elsewhere.undo")
    before = Path("device.safetensors").read_bytes()
    with pytest.raises(PatchError, match=r"lies no file \*\..*\.undo.* give it with --undo"):
        take_off("device.safetensors", "device.safetensors")
    assert Path("device.safetensors").read_bytes() == before
    assert main("patch revert --weights device.safetensors --undo elsewhere.undo".split()) == 0


def test_names_with_and_without_a_prefix_are_known_and_the_models_own_are_written(place):
    state = read_state("base.pt")
    save_file({f"net.{k}": v for k, v in state.items()}, "wrapped.safetensors")
    put_on(Patch.load("p1.safetensors"), "wrapped.safetensors", "device.safetensors")
    assert set(load_file("device.safetensors")) == set(state)
    # And a model whose only child is called `module`, as a checkpoint of DataParallel looks.
    inner = {f"module.{k}": v for k, v in state.items()}
    torch.save(inner, "inner.pt")
    make_patch(inner, {"module.fc.bias": torch.zeros(10)}, "rear").save("inner.safetensors")
    put_on(Patch.load("inner.safetensors"), "inner.pt", "device.safetensors")
    assert set(load_file("device.safetensors")) == set(inner)
    take_off("device.safetensors", "device.safetensors")
    assert fingerprint(load_file("device.safetensors")) == fingerprint(inner)


@pytest.mark.parametrize("fails", ["undo", "state"])
def test_what_cannot_be_written_leaves_nothing(fails, place, monkeypatch):
    from tbft.files import atomic

    before = sorted(place.iterdir())
    sync, calls = atomic.sync, []

    def full(path):
        calls.append(path)
        if len(calls) == {"undo": 1, "state": 2}[fails]:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(WriteError, match=r"No space left on device; free some space"):
        stack("p1")
    assert sorted(place.iterdir()) == before


def test_what_cannot_be_written_elsewhere_takes_no_undo_patches_along(place, monkeypatch):
    stack("p1")
    Path("other").mkdir()
    Path("other/of-another.undo").touch()

    def full(*_):
        raise WriteError("no space")

    monkeypatch.setattr("tbft.patches.installed.save_weights", full)
    with pytest.raises(WriteError):
        put_on(Patch.load("p2.safetensors"), "device.safetensors", "other/device.safetensors")
    with pytest.raises(WriteError):
        take_off("device.safetensors", "other/device.safetensors")
    assert [path.name for path in Path("other").iterdir()] == ["of-another.undo"]


def test_a_damaged_state_or_log_is_refused(place):
    stack("p1")
    blob = Path("device.safetensors").read_bytes()
    Path("device.safetensors").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(PatchError, match="not the state that its log ends in"):
        read_installed("device.safetensors")
    with pytest.raises(CheckpointError, match="checksum does not match"):
        read_state("device.safetensors")
    state = load_file("device.safetensors")
    save_weights(state, "device.safetensors", {"tbft_log": '{"entries": []}'})
    read_installed("device.safetensors")
    blob = Path("device.safetensors").read_bytes()
    Path("device.safetensors").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(PatchError, match="not the state that its log ends in"):
        read_installed("device.safetensors")
    for log in ("{", '{"entries": 3}', '{"entries": [{"base": "x"}]}'):
        save_file(state, "device.safetensors", {"tbft_log": log})
        with pytest.raises(PatchError, match=r"the log of device\.safetensors is not usable"):
            read_installed("device.safetensors")


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(place, capsys):
    command = "patch apply p1.safetensors --weights base.pt --out device.safetensors".split()
    hold = "import time; from tbft.files import claim; claim('device.safetensors'); print('held', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; time.sleep(60)"], stdout=subprocess.PIPE, env=os.environ
    ) as other:
        assert other.stdout.readline() == b"held\n"
        assert main(command) == 2
        assert f"is being written by process {other.pid}" in capsys.readouterr().err
        other.kill()
    assert list(place.glob(".*.lock"))
    assert main(command) == 0
    assert not list(place.glob(".*"))
