"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import heed_interrupts, striped
from safetensors.torch import save_file

import tbft
from tbft.blocks.tensors import fingerprint
from tbft.cli import main, signals
from tbft.errors import TbftError, WriteError
from tbft.models import read_state
from tbft.models.digits import DigitsNet
from tbft.tuning import passes
from tbft.verification.running import predict


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A trained-enough digits model and a set that it can be tuned on."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(DigitsNet(10).state_dict(), "base.pt")
    samples = striped(120)
    np.savez("set.npz", images=samples.inputs, labels=samples.labels, subject=np.arange(120) % 6)
    return tmp_path


ADAPT = ("personalize digits --weights base.pt --data set.npz --train 0.4 --val 0.2 --test 0.2 "
         "--batch-size 16 --epochs 3 --learning-rate 0.02 --level input").split()  # fmt: skip


def test_personalize_json_holds_what_its_page_says(place, capsys):
    assert main([*ADAPT, "--json", "--out", "user.safetensors"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out)
    assert (result["level"], result["arm"], result["block"], result["seed"]) == ("input", "front", "front", 0)
    assert result["group_by"] == "subject"
    assert result["patch_bytes"] == Path("user.safetensors").stat().st_size
    assert (result["energy_joules"], result["energy_kind"]) == (None, "unavailable")
    assert result["cpu_seconds"] > 0
    assert result["peak_rss_bytes"] > 2**20
    page = (Path(__file__).parents[1] / "docs" / "personalize-json.md").read_text()
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert documented == set(result)


def test_personalize_prints_a_summary_and_writes_nothing_unasked(place, capsys):
    before = sorted(p.name for p in place.iterdir())
    assert main(ADAPT) == 0
    out = capsys.readouterr().out
    for word in ("accuracy", "test samples", "front", "processor time", "at the peak", "bytes"):
        assert word in out
    assert sorted(p.name for p in place.iterdir()) == before


@pytest.mark.parametrize(("options", "cautious"), [([], True), (["--no-cautious"], False)])
def test_caution_can_be_refused(place, capsys, options, cautious):
    assert main([*ADAPT, *options, "--json"]) in (0, 4)
    assert json.loads(capsys.readouterr().out)["acceptance"]["cautious"] == cautious


def test_same_seed_same_patch(place, capsys):
    prints = []
    for name in ("a.safetensors", "b.safetensors"):
        assert main([*ADAPT, "--json", "--out", name]) == 0
        prints.append(json.loads(capsys.readouterr().out)["tuned_fingerprint"])
    assert prints[0] == prints[1]


def test_numbers_that_are_given_hold(place, capsys):
    adapt = (
        "personalize digits --weights base.pt --data set.npz --train 0.8 --val 0 --test 0.2 --json".split()
    )
    for arm, epochs in (("front", 1), ("late", 2), ("rear", 3)):
        assert main([*adapt, "--arm", arm, "--epochs", str(epochs), "--batch-size", "40"]) == 0
        assert len(json.loads(capsys.readouterr().out)["history"]) == epochs


def test_a_card_is_built_shown_and_diagnosed_with(place, capsys):
    build = "card build digits --weights base.pt --data set.npz --out base.card.safetensors".split()
    assert main(build) == 0
    assert "which is chance: its BatchNorm layers have not seen any samples" in capsys.readouterr().err
    model = DigitsNet(10)
    model.load_state_dict(torch.load("base.pt", weights_only=True))
    samples = striped(120)  # a model is right on what it says itself
    np.savez("set.npz", images=samples.inputs, labels=predict(model, samples).argmax(1))
    assert main(build) == 0
    assert "120 source samples" in capsys.readouterr().out
    assert main("card show base.card.safetensors --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["sample_count"] == 120
    diagnose = "diagnose digits --weights base.pt --data set.npz --card base.card.safetensors".split()
    assert main([*diagnose, "--samples", "20/class", "--explain"]) == 0
    out = capsys.readouterr().out
    for word in ("no drift, or none that matters", "statistics did not move", "expected %", "<- chosen"):
        assert word in out
    assert main([*diagnose, "--unlabeled", "--samples", "10/class", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["evidence"]["labels"]) == ("cannot tell", None)
    torch.manual_seed(1)
    torch.save(DigitsNet(10).state_dict(), "other.pt")
    assert main([*diagnose, "--weights", "other.pt"]) == 2
    assert "another base model" in capsys.readouterr().err


def test_the_level_is_diagnosed_by_default(place, capsys):
    train = (
        "train digits --data set.npz --epochs 6 --batch-size 16 --learning-rate 0.02 --out own.safetensors"
    )
    assert main(train.split()) == 0
    assert "to choose the epoch" in capsys.readouterr().err
    own = "digits --weights own.safetensors --data set.npz"
    assert main(f"card build {own} --out base.card.safetensors".split()) == 0
    personalize = f"personalize {own} --group-by none --train 0.7 --val 0.15 --test 0.15".split()
    capsys.readouterr()
    save_file({}, "user.safetensors", {"tbft_patch": "of another run"})
    assert main([*personalize, "--card", "base.card.safetensors", "--out", "user.safetensors", "--json"]) == 3
    said = capsys.readouterr()
    clean = json.loads(said.out)
    assert clean["status"] == "unchanged"
    assert "note: nothing was tuned, so there was nothing to accept or reject" in said.err
    assert all(note in said.err for note in clean["notes"])
    assert "user.safetensors was from another run: it was renamed to user.previous.safetensors" in said.err
    assert "of another run" in Path("user.previous.safetensors").read_text()
    assert (clean["arm"], clean["patch_path"], clean["choice"]["diagnosis"]["name"]) == ("none", None, "none")
    assert not Path("user.safetensors").exists()
    assert main([*personalize, "--explain"]) in (0, 3, 4)  # without a card
    assert "build a source card" in capsys.readouterr().out
    assert main([*personalize, "--budget-joules", "5"]) == 2
    assert "needs an energy estimate" in capsys.readouterr().err
    assert main([*personalize, "--arm", "full", "--budget-seconds", "0.001"]) == 2
    assert "is predicted to take" in capsys.readouterr().err
    assert main([*personalize, "--arm", "full", "--budget-memory", "0.1"]) == 2
    assert "takes at least" in capsys.readouterr().err
    assert main([*personalize, "--recipe", "paper"]) == 2
    assert "name a level" in capsys.readouterr().err


def test_a_base_is_trained_with_any_recipe(place, capsys):
    samples = striped(240)
    np.savez("larger.npz", images=samples.inputs, labels=samples.labels)
    command = "train digits --data larger.npz --recipe fast --epochs 5 --val 0.5 --out new.safetensors"
    assert main(command.split()) == 0
    assert "new.safetensors: epoch 5 of 5 kept" in capsys.readouterr().out
    assert json.loads(Path("new.json").read_text())["recipe"]["name"] == "fast"
    assert main("card show new.card.safetensors".split()) == 0


def test_a_patch_goes_on_a_checkpoint_and_off_again(place, capsys):
    assert main([*ADAPT, "--out", "user.safetensors"]) == 0
    for command in (
        "patch show user.safetensors",
        "patch verify user.safetensors",
        "patch verify user.safetensors --weights base.pt",
        "patch apply user.safetensors --weights base.pt --out tuned.safetensors",
        "patch revert user.safetensors --weights tuned.safetensors --out again.safetensors",
        "evaluate digits --weights tuned.safetensors --data set.npz --per-class",
        "evaluate digits --weights base.pt --patch user.safetensors --data set.npz --json",
    ):
        assert main(command.split()) == 0, command
    assert fingerprint(read_state("again.safetensors")) == fingerprint(read_state("base.pt"))
    out = capsys.readouterr().out
    by_file, by_patch = (f"{a:.4f}" for a in _accuracies(out))
    assert by_file == by_patch


def _accuracies(out: str) -> tuple[float, float]:
    printed = float(out.split("set.npz: ")[1].split(" %")[0]) / 100
    return printed, round(json.loads(out[out.index("{") :])["accuracy"], 4)


def test_every_arm_runs(place):
    common = [a for a in ADAPT if a not in ("--level", "input")]
    for arm in ("none", "adabn", "front", "middle", "late", "rear", "full", "conv1.0"):
        assert main([*common, "--arm", arm, "--val", "0"]) == (3 if arm == "none" else 0)


def test_looking_at_things(place, capsys):
    for command in (
        "blocks resnet26-cifar10 --keys",
        "blocks digits --cuts fc --names body,head --json",
        "models",
        "models --json",
        "data show set.npz",
        "data show set.npz --drift contrast:5 --out sheet.png --json",
        "data corrupt set.npz --drift gaussian_noise:3 --out noisy",
        "data show noisy",
    ):
        assert main(command.split()) == 0, command
    assert "277,440" in capsys.readouterr().out
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    assert np.load("noisy/gaussian_noise.npy").shape == (120, 8, 8, 1)


def test_train_then_personalize_a_users_own_model(place, capsys):
    Path("own.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n"
        "    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())\n"
        "    return [('a', body), ('b', nn.Linear(16, 3))]\n"
        "def samples():\n    x = torch.rand(90, 1, 8, 8)\n"
        "    return torch.utils.data.TensorDataset(x, (x.sum(dim=(1, 2, 3)) > 32).long())\n"
    )
    train = "train own:net --data own:samples --epochs 2 --batch-size 16 --out own.safetensors --json"
    assert main(train.split()) == 0
    assert len(json.loads(capsys.readouterr().out)["history"]) == 2
    assert not list(place.glob("*.resume.pt"))
    adapt = ("personalize own:net --weights own.safetensors --data own:samples --level output --train 0.5 "
             "--val 0 --batch-size 16 --epochs 1 --json")  # fmt: skip
    assert main(adapt.split()) == 0
    assert json.loads(capsys.readouterr().out)["arm"] == "b"


# --- bad input: exit status 2, one message, nothing written ------------------------------------


class Boom:
    def __reduce__(self):
        return (print, ("owned",))


def _bad_files() -> None:
    samples = striped(60)
    x, y = samples.inputs, samples.labels
    Path("empty").mkdir()
    Path("empty.safetensors").mkdir()
    np.savez("range.npz", x=x, y=y + 20)
    np.savez("nan.npz", x=np.full((60, 1, 8, 8), np.nan, np.float32), y=y)
    np.savez("inf.npz", x=np.full((60, 1, 8, 8), np.inf, np.float32), y=y)
    np.savez("channels.npz", x=np.zeros((60, 8, 8, 3), np.uint8), y=y)
    np.savez("one.npz", x=x, y=np.zeros(60, int))
    Path("folder/eleven").mkdir(parents=True)
    from PIL import Image

    Image.fromarray(x[0, ..., 0]).save("folder/eleven/a.png")
    torch.save(torch.nn.Linear(2, 2).state_dict(), "other.pt")
    Path("evil.pt").write_bytes(pickle.dumps(Boom()))
    Path("cut.pt").write_bytes(Path("base.pt").read_bytes()[:500])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--data nowhere", "no such file or folder"),
        ("--data empty", "no pictures"),
        ("--data folder", "the model has no such class: unknown class 'eleven'"),
        ("--data range.npz", "labels are out of range"),
        ("--data nan.npz", "NaN or infinite"),
        ("--data inf.npz", "NaN or infinite"),
        ("--data channels.npz", "the model takes 1 channels"),
        ("--data one.npz", "of the class '0'"),
        ("--weights other.pt", "does not fit DigitsNet"),
        ("--weights evil.pt", "refused"),
        ("--weights cut.pt", "cut.pt"),
        ("--weights nowhere.pt", "no such checkpoint"),
        ("--out nowhere/user.safetensors", "does not exist"),
        ("--out empty.safetensors", "it is a folder"),
        ("--level imput", "did you mean 'input'"),
        ("--arm frnt", "did you mean 'front'"),
        ("--drift contrst:5", "did you mean 'contrast'"),
        ("--drift contrast:9", "from 1 to 5, not '9'"),
        ("--recipe papr", "did you mean 'paper'"),
        ("--train 5000", "samples are requested in all"),
        ("--train lots", "not a valid amount"),
        ("--train 0", "no samples to train on"),
        ("--where subject", "write KEY=VALUE"),
        ("--group-by room", "--group-by: unknown attribute 'room': Known: "),
        ("--source-share 1.5", "a fraction from 0 to 1"),
        ("--learning-rate 1e38", "diverged"),
        ("--epochs 0", "a positive number"),
        ("--cache-memory -1", "has to be 0 or more MiB"),
        ("--cuts layer9", "unknown cut 'layer9'"),
    ],
)
def test_bad_input(change, message, place, capsys):
    _bad_files()
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    option, value = change.split()
    arguments = list(ADAPT)
    if option == "--arm":
        arguments = arguments[: arguments.index("--level")]
    if "--out" not in change:
        arguments += ["--out", "user.safetensors"]
    assert main([*arguments, option, value, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("tbft: ") == 1
    assert "Traceback" not in captured.err
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


def test_labels_drift_and_names_survive_corrupt(place):
    assert main("data corrupt set.npz --drift labels:permute --out permuted".split()) == 0
    from tbft.data import read

    permuted, base = read("permuted"), read("set.npz")
    np.testing.assert_array_equal(permuted.inputs, base.inputs)
    np.testing.assert_array_equal(permuted.attributes["subject"], base.attributes["subject"])
    assert (permuted.labels != base.labels).any()


def test_corruptions_are_those_of_the_input(place, capsys):
    assert main("data corrupt set.npz --corruptions labels:noise --severity 1 --out c".split()) == 2
    assert "unknown corruption 'labels:noise'" in capsys.readouterr().err


def test_checkpoints_are_written_as_safetensors_only(place, capsys):
    assert main("train digits --data set.npz --out base2.pth".split()) == 2
    assert "it is written as .safetensors" in capsys.readouterr().err


def test_unknown_model_and_missing_weights(place, capsys):
    assert main(["evaluate", "resnet62", "--weights", "base.pt", "--data", "set.npz"]) == 2
    assert "unknown model 'resnet62'" in capsys.readouterr().err
    assert main(["evaluate", "digits", "--data", "set.npz"]) == 2
    assert "--weights FILE" in capsys.readouterr().err
    assert main(["evaluate", "no.such:module", "--data", "set.npz"]) == 2
    assert "cannot import" in capsys.readouterr().err


def test_a_patch_for_another_base(place, capsys):
    assert main([*ADAPT, "--out", "user.safetensors"]) == 0
    torch.manual_seed(1)
    torch.save(DigitsNet(10).state_dict(), "second.pt")
    capsys.readouterr()
    command = "patch apply user.safetensors --weights second.pt --out tuned.safetensors"
    assert main(command.split()) == 2
    assert "for another base" in capsys.readouterr().err
    assert not list(place.glob("tuned*"))
    assert main("evaluate digits --weights second.pt --patch user.safetensors --data set.npz".split()) == 2


def test_a_page_that_cannot_be_written_does_not_hide_what_was_done(place, capsys, monkeypatch):
    from tbft.report import pages

    def full(*_, **__):
        raise WriteError("cannot write r.html: No space left on device")

    monkeypatch.setattr(pages, "atomic_path", full)
    assert main([*ADAPT, "--out", "user.safetensors", "--report", "r.html", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "patched"
    assert "No space left on device; everything else is done" in said.err


def test_names_in_files_do_not_steer_the_terminal(place, capsys):
    names = ["\x1b[2J\x1b[31mred", "\u202egnp", "a\nb"]
    samples = striped(60)
    np.savez("hostile.npz", x=samples.inputs, y=samples.labels, class_names=names)
    assert main(["data", "show", "hostile.npz"]) == 0
    assert main(["evaluate", "digits", "--weights", "base.pt", "--data", "hostile.npz"]) == 2
    said = capsys.readouterr()
    assert r"\x1b[2J" in said.out and r"\u202e" in said.out and r"a\nb" in said.out
    assert not any(letter in said.out + said.err for letter in "\x1b\u202e")


@pytest.mark.parametrize("value", ["nan", "inf", "1e999"])
def test_numbers_that_are_none_are_refused(value, place, capsys):
    for option in ("--budget-seconds", "--budget-memory", "--cache-memory", "--learning-rate"):
        with pytest.raises(SystemExit) as caught:
            main([*ADAPT, option, value])
        assert caught.value.code == 2
        assert "is not a number" in capsys.readouterr().err


def test_a_source_share_is_a_number_or_auto(capsys):
    with pytest.raises(SystemExit):
        main([*ADAPT, "--source-share", "half"])
    assert "'half' is neither a number from 0 to 1 nor auto" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--weights", ""], ["--weights="], ["--out", ""], ["--card="]])
def test_an_empty_value_is_not_taken_as_none(given, place, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*ADAPT, *given])
    assert caught.value.code == 2
    assert f"argument {given[0].rstrip('=')}: its value is empty" in capsys.readouterr().err
    assert main(["energy", "measure", "--", "true", "--weights", ""]) == 0
    with pytest.raises(TbftError):
        tbft.load_base("digits", weights="")


def test_usage_errors_exit_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["personalize"])
    assert caught.value.code == 2


def test_ctrl_c_keeps_what_was_learned_and_the_next_run_resumes(place):
    endless = [*ADAPT, "--recipe", "base-short", "--epochs", "1000000", "--out", "user.safetensors"]
    with subprocess.Popen(
        [sys.executable, "-m", "tbft", *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        end = time.monotonic() + 120
        while not Path("user.safetensors.resume.pt").exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert process.poll() is None, "it ended before it could be interrupted"
        before = {p.name for p in place.iterdir()}
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    said = "the patch of what was learned by then is user.safetensors; run it again to resume"
    assert error.splitlines()[-1] == f"tbft: interrupted; {said}"
    assert {p.name for p in place.iterdir()} - before == {"user.safetensors"}
    assert "user.safetensors.resume.pt" in before
    assert main([*ADAPT, "--out", "user.safetensors"]) == 2  # another run's
    assert main([*ADAPT, "--out", "user.safetensors", "--restart"]) == 0
    assert not Path("user.safetensors.resume.pt").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--val 0 --out u.safetensors", "what was learned by then is u.safetensors; run it again to resume"),
        ("--val 0", "what was learned by then is not written, as there is no --out"),
        ("--out u.safetensors", "nothing was learned by then, so there is no patch"),  # in the first fold
    ],
)
def test_an_interrupt_says_what_it_leaves(place, monkeypatch, options, said):
    fit = passes.fit

    def interrupted(*given):
        def after_epoch(state):
            given[-1].on_epoch(state)
            raise KeyboardInterrupt

        return fit(*given[:-1], replace(given[-1], on_epoch=after_epoch))

    monkeypatch.setattr(passes, "fit", interrupted)
    line = (
        f"personalize digits --weights base.pt --data set.npz --test 0.2 --batch-size 16 --arm fc {options}"
    )
    main(line.split())
    assert signals.left_behind.endswith(said)


def test_an_interrupt_leaves_no_patch_of_an_earlier_run_under_its_name(place, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tbft.pipeline.personalize", interrupted)
    save_file({}, "user.safetensors", {"tbft_patch": "of another run"})
    assert main([*ADAPT, "--out", "user.safetensors"]) == 130
    assert "it was renamed to user.previous.safetensors" in capsys.readouterr().err
    assert not Path("user.safetensors").exists()


def test_a_dependency_that_is_missing_is_named(monkeypatch, capsys):
    def fails(_):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr("tbft.cli.datasets.run_list", fails)
    assert main(["data", "list"]) == 2
    assert capsys.readouterr().err.strip() == "tbft: PIL is not installed: pip install pillow"
