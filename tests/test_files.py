"""Files on disk: all or nothing, whoever fails, and nothing of the dead is left or used."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn

import tbft
from tbft import files
from tbft.cli import main
from tbft.errors import CheckpointError, PlanError, TbftWarning, WriteError
from tbft.files import atomic
from tbft.models import save_weights
from tbft.tuning.loop import EpochRecord, FitState
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix
from tbft.tuning.resume import load_run, save_run

WRITE = """
import os, signal, sys
from tbft.files import atomic_path
with atomic_path("out.txt") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atomic, "_cleaned", set())
    return tmp_path


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(place):
    Path("out.txt").write_text("old")
    subprocess.run([sys.executable, "-c", WRITE], env=os.environ)
    assert len(list(place.glob(".out.txt.*.part"))) == 1
    with files.atomic_path("living.txt") as living:
        assert not list(place.glob(".out.txt.*.part"))
        code = "from tbft.files import atomic_path\nwith atomic_path('b.txt') as t: t.write_text('b')"
        subprocess.run([sys.executable, "-c", code], env=os.environ, check=True)
        assert living.exists()
        living.write_text("alive")
    assert sorted(p.name for p in place.iterdir()) == ["b.txt", "living.txt", "out.txt"]
    assert Path("out.txt").read_text() == "old"


def test_a_link_is_followed_and_modes_are_kept(place):
    Path("v1.txt").write_text("old")
    Path("v1.txt").chmod(0o640)
    Path("latest.txt").symlink_to("v1.txt")
    with files.atomic_path("latest.txt") as temporary:
        temporary.write_text("new")
    assert Path("latest.txt").is_symlink() and Path("v1.txt").read_text() == "new"
    assert stat.S_IMODE(Path("v1.txt").stat().st_mode) == 0o640
    with files.atomic_path("own.txt", private=True) as temporary:
        temporary.write_text("mine")
    assert stat.S_IMODE(Path("own.txt").stat().st_mode) == 0o600


def test_file_and_folder_are_flushed_around_the_rename(place, monkeypatch):
    done = []
    for name in ("sync", "sync_folder"):
        monkeypatch.setattr(atomic, name, lambda path: done.append((path, Path("out.txt").exists())))
    with files.atomic_path("out.txt") as temporary:
        pass
    assert done == [(temporary, False), (place, True)]


@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "device", "suffix", "no folder", "an input", "too long", "loop"]
)
def test_what_cannot_be_an_output_is_refused_before_the_work(kind, place):
    Path("folder.safetensors").mkdir()
    os.mkfifo("pipe.safetensors")
    Path("device.safetensors").symlink_to("/dev/null")
    Path("input.safetensors").touch()
    Path("loop.safetensors").symlink_to("loop.safetensors")
    name, message = {
        "folder": ("folder.safetensors", "it is a folder"),
        "pipe": ("pipe.safetensors", "a device or a pipe"),
        "device": ("device.safetensors", "a device or a pipe"),
        "suffix": ("out.pt", "it is written as .safetensors"),
        "no folder": ("nowhere/out.safetensors", "does not exist"),
        "an input": ("./input.safetensors", "it is read from, too"),
        "loop": ("loop.safetensors", "a link that leads to itself"),
        "too long": (f"{'x' * 300}.safetensors", "name too long; give a shorter name"),
    }[kind]
    before = sorted(place.iterdir())
    with pytest.raises(WriteError, match=f"(?i){message}"):
        files.claim(name, files.WEIGHTS, ["input.safetensors", "absent"])
    assert sorted(place.iterdir()) == before


def written_by_tbft(folder):
    """A file of each kind that tbft writes, by its kind."""
    model, folder = nn.Sequential(nn.Identity(), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval(), Path(folder)
    save_weights(model.state_dict(), folder / "w.safetensors")
    x, y = torch.eye(3).repeat(40, 2)[:, :4], np.arange(120) % 3
    with torch.no_grad():
        model[2].weight.copy_(torch.eye(4)[:3])
    tbft.build_card(model, (x, y)).save(folder / "c.safetensors")
    result = tbft.personalize(model, (x, y), arm="none")
    result.patch.save(folder / "p.safetensors")
    result.save_report(folder / "r.html")
    tbft.metering.profile.shipped_profiles().popitem()[1].save(folder / "f.json")
    assert main(["data", "show", "fog:3", "--out", str(folder / "s.png")]) == 0
    (folder / "t.json").write_text(json.dumps({"val_accuracy": 1, "recipe": {}, "versions": {}}))
    names = ("w.safetensors", "c.safetensors", "p.safetensors", "r.html", "f.json", "s.png", "t.json")
    kinds = (files.WEIGHTS, files.CARD, files.PATCH, files.REPORT, files.PROFILE, files.SHEET, files.RECORD)
    return {kind: folder / name for kind, name in zip(kinds, names, strict=True)}


def test_a_file_is_replaced_by_one_of_its_own_kind_only(place):
    written = written_by_tbft(place)
    for kind, own in written.items():
        for other, path in written.items():
            if path.suffix == own.suffix and other is not kind:
                with pytest.raises(WriteError, match=f"not {kind.what}, which would be lost; move it"):
                    files.claim(path, kind)
        files.claim(own, kind)
        theirs = own.with_stem("theirs")
        theirs.write_bytes(b"")
        files.check_writable(theirs, kind)  # nothing is lost
        for content in (b"\x89PNG\r\n\x1a\n", b"<html>mine</html>", b"{}", bytes(range(256)), b"[1]"):
            theirs.write_bytes(content)
            with pytest.raises(WriteError, match="would be lost"), files.atomic_path(theirs, kind=kind) as t:
                t.write_text("ours")
            assert theirs.read_bytes() == content


def test_weights_are_not_replaced_by_a_patch_or_a_card_of_the_library(place):
    written = written_by_tbft(place)
    weights = written[files.WEIGHTS]
    before = weights.read_bytes()
    for saved in (tbft.Patch.load(written[files.PATCH]), tbft.SourceCard.load(written[files.CARD])):
        with pytest.raises(WriteError, match="would be lost"):
            saved.save(weights)
    Path("mine.html").write_text("<html></html>")
    result = tbft.personalize(nn.Linear(4, 3), (torch.eye(4).repeat(9, 1), np.arange(36) % 3), arm="none")
    with pytest.raises(WriteError, match=r"mine\.html: there is a file that is not a report of tbft"):
        result.save_report("mine.html")
    assert weights.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(place):
    Path("closed").mkdir(mode=0o500)
    with pytest.raises(WriteError, match=r"Permission denied; allow it, or write elsewhere"):
        files.check_writable("closed/out.txt")


@pytest.fixture
def small_files():
    """No file may grow beyond 64 KiB."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


class Weights(nn.Module):
    """A model of one parameter, `a`, and an optimizer that has made a step."""

    def __init__(self, scalars: int = 10) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(scalars))
        self.optimizer = torch.optim.Adam([self.a])
        self.a.grad = torch.zeros(scalars)
        self.optimizer.step()


def _state(scalars: int = 10) -> FitState:
    made = Weights(scalars)
    weights = {key: value.clone() for key, value in made.state_dict().items()}
    record, generator = EpochRecord(1, 0.5, None, None), torch.Generator().get_state()
    return FitState([record], 1, weights, weights, made.optimizer.state_dict(), generator)


def _load(run: dict[str, object]) -> FitState:
    own = Weights()
    found = load_run(Path("x.resume.pt"), run, own, own.optimizer)
    assert found is not None
    return found


def test_a_limit_of_file_size_is_reported_with_its_remedy_and_ends_no_work_that_it_only_supports(
    place, small_files
):
    with pytest.raises(WriteError, match=r"File too large; allow larger files \(ulimit -f\)"):
        save_weights({"a": torch.ones(100_000)}, "a.safetensors")
    with pytest.raises(WriteError, match="File too large"):
        cache_prefix(nn.Flatten(), striped(1000), CachePolicy(0, place))
    with pytest.warns(TbftWarning, match=r"File too large; .* this run cannot be resumed"):
        save_run(_state(100_000), Path("x.resume.pt"), {})
    assert not list(place.iterdir())


def test_every_flipped_bit_of_a_resume_file_is_noticed(place):
    path = Path("x.resume.pt")
    save_run(_state(), path, {"seed": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _load({"seed": 1}).best["a"].tolist() == [1] * 10
    blob = path.read_bytes()
    damaged = [blob[:n] for n in (0, 10, len(blob) - 1)] + [blob + b"\0"]
    damaged += [
        blob[:at] + bytes([blob[at] ^ 1 << at % 8]) + blob[at + 1 :] for at in range(0, len(blob), 53)
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged, .*: remove it, or give --restart"):
            _load({"seed": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"best": 3},
        {"model": {"a": 1}},
        {"best_epoch": 7},
        {"best_epoch": "1"},
        {"history": [EpochRecord("one", 0.5, None, None)]},  # type: ignore[arg-type]
        {"optimizer": None},
        {"generator": torch.zeros(3)},
        {"best": {"a": torch.ones(11)}},
        {"best": {"b": torch.ones(10)}},
        {"best": {"a": torch.full((10,), float("nan"))}},
        {"model": {"a": torch.ones(10).double()}},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"optimizer": _state(11).optimizer},
        {"surprise": 1},
    ],
)
def test_resume_files_are_typed(change, place):
    state = _state()
    vars(state).update(change)
    save_run(state, Path("x.resume.pt"), {})
    with pytest.raises(CheckpointError, match="not a resumable checkpoint"):
        _load({})


@pytest.mark.parametrize("damage", ["cut", "flipped", "renamed", "without a checksum"])
def test_a_damaged_prefix_cache_is_made_anew_in_one_line(damage, place):
    policy, samples = CachePolicy(0, place), striped(40)
    path = cache_prefix(nn.Flatten(), samples, policy).inputs.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    blob = path.read_bytes()
    expected = cache_prefix(nn.Flatten(), samples, policy).inputs[:]
    if damage == "renamed":
        cache_prefix(nn.Flatten(), striped(40, seed=1), policy).inputs.path.replace(path)
    else:
        bad = {
            "cut": blob[:-500],
            "flipped": blob[:600] + b"?" + blob[601:],
            "without a checksum": blob[:-78],
        }
        path.write_bytes(bad[damage])
    with pytest.warns(TbftWarning, match="is damaged: it is written again") as told:
        again = cache_prefix(nn.Flatten(), samples, policy).inputs[:]
    assert len(told) == 1
    np.testing.assert_array_equal(again, expected)
    assert path.read_bytes() == blob


def test_a_cache_that_is_cut_off_while_in_use_gives_no_made_up_rows(place):
    rows = cache_prefix(nn.Flatten(), striped(40), CachePolicy(0, place)).inputs
    os.truncate(rows.path, 1000)
    with pytest.raises(PlanError, match="was truncated while in use"):
        rows[39]


def test_caches_are_shown_and_cleared_and_other_files_stay(place, capsys):
    path = cache_prefix(nn.Flatten(), striped(40), CachePolicy(0, place)).inputs.path
    save_run(_state(), Path("x.resume.pt"), {})
    Path("prefix-notes.npy").touch()
    Path(".x.12345678.part").touch()
    path.write_bytes(b"damaged")
    assert main(["cache", "show", "--json"]) == 0
    kept = {k["path"]: (k["kind"], k["whole"]) for k in json.loads(capsys.readouterr().out)}
    assert kept == {
        path.name: ("prefix cache", False),
        "x.resume.pt": ("unfinished run", True),
        ".x.12345678.part": ("leftover", None),
    }
    assert main(["cache", "show"]) == 0
    assert main(["cache", "clear"]) == 0
    assert sorted(p.name for p in place.iterdir()) == ["prefix-notes.npy", "x.resume.pt"]
    assert main(["cache", "clear", "--runs"]) == 0
    assert main(["cache", "show", "nowhere"]) == 2
    assert sorted(p.name for p in place.iterdir()) == ["prefix-notes.npy"]


def test_a_file_of_an_earlier_run_is_moved_aside(place):
    assert files.move_aside("user.safetensors") is None
    for text, aside in (("first", "user.previous.safetensors"), ("second", "user.previous-2.safetensors")):
        Path("user.safetensors").write_text(text)
        assert files.move_aside("user.safetensors") == Path(aside)
    assert not Path("user.safetensors").exists()
    assert Path("user.previous.safetensors").read_text() == "first"
    assert Path("user.previous-2.safetensors").read_text() == "second"


def test_an_interrupt_that_torch_makes_an_error_of_its_own_stays_one(tmp_path):
    class Interrupted:
        def write(self, data):
            raise KeyboardInterrupt

        def flush(self):
            pass

    with pytest.raises(KeyboardInterrupt), files.atomic_path(tmp_path / "state.pt"):
        torch.save({"weight": torch.zeros(1000)}, Interrupted())
    assert list(tmp_path.iterdir()) == []


def test_a_claim_ends_with_its_body_and_a_fork_does_not_end_that_of_its_parent(place):
    code = "from tbft.files import claim; claim('out.txt')"
    with files.claimed("out.txt"), files.claimed("out.txt"):
        pid = os.fork()
        if not pid:
            files.release_claims()
            os._exit(0)
        os.waitpid(pid, 0)
        refused = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
        assert f"is being written by process {os.getpid()}" in refused.stderr
    assert not list(place.iterdir())
    files.claim("out.txt")
    files.release_claims()


def test_a_lock_holds_and_ends_without_space_for_the_process_id(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tbft.files.claims.os.write", full)
    with files.claimed("out.txt"):
        assert Path(".out.txt.lock").exists()
    assert not list(place.iterdir())


def test_a_lock_is_not_taken_through_a_planted_link(place):
    Path("precious.txt").write_text("mine")
    Path(".out.txt.lock").symlink_to("precious.txt")
    with pytest.raises(WriteError, match="remove the links there"):
        files.claim("out.txt")
    assert Path("precious.txt").read_text() == "mine"


def test_two_runs_do_not_mix_in_the_folder_of_a_drifted_set(place):
    from tbft.scenarios.writing import write_corruptions

    Path("noisy").mkdir()
    hold = "import time; from tbft.files import claim; claim('noisy/about.npz'); print(1, flush=True)"
    command = [sys.executable, "-c", f"{hold}; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as other:
        other.stdout.readline()
        with pytest.raises(WriteError, match=f"is being written by process {other.pid}"):
            write_corruptions(striped(4), ["contrast"], "noisy", (3,))
        other.kill()
    assert [path.name for path in write_corruptions(striped(4), ["contrast"], "noisy", (3,))] == [
        "contrast.npy"
    ]
