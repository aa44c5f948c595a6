"""Drifts, mixtures, schedules: what is registered keeps the same promises; what is written can be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import heed_interrupts
from PIL import Image

from tbft.cli import main
from tbft.data import make_samples, read
from tbft.data.cifar10c import COMMON, load_cifar10c
from tbft.errors import DataError
from tbft.scenarios import apply_drift, drifts, find_drifts
from tbft.scenarios.labels import class_prior, pair_swaps
from tbft.scenarios.schedule import DriftStream, parse_schedule
from tbft.scenarios.sheets import scenario_sheet, set_sheet
from tbft.scenarios.writing import CHUNK, write_corruptions, write_drifted

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
PICTURES = make_samples(
    RGB, np.arange(24) % 6, list("abcdef"), {"file": np.array([f"{i}.png" for i in range(24)])}, "pictures"
)
SPECS = [example for drift in drifts() for example in drift.examples]
MIXTURES = [
    "gaussian_noise:3+labels:reverse",
    "shot_noise:1+gaussian_noise:2+labels:noise:0.3",
    "clean+fog:2",
]


@pytest.mark.parametrize("spec", SPECS + MIXTURES)
def test_every_drift_keeps_its_promises(spec):
    drifted = apply_drift(PICTURES, spec, seed=3)
    kept = drifted.ids  # a prior shift leaves samples out
    assert drifted.inputs.shape == (len(kept), 32, 32, 3)
    assert drifted.inputs.dtype == np.uint8
    assert drifted.labels.dtype == np.int64
    assert set(drifted.labels.tolist()) <= set(range(6))
    assert len(drifted.class_names) == 6
    again = apply_drift(PICTURES, spec, seed=3)
    np.testing.assert_array_equal(drifted.inputs, again.inputs)
    np.testing.assert_array_equal(drifted.labels, again.labels)
    np.testing.assert_array_equal(RGB, PICTURES.inputs)
    # Neither order nor subset matters.
    some = [23, *range(0, 20, 2), 1]
    part = apply_drift(PICTURES.subset(some), spec, seed=3)
    assert part.ids.tolist() == [i for i in some if i in set(kept.tolist())]
    at = [kept.tolist().index(i) for i in part.ids]
    np.testing.assert_array_equal(part.inputs, drifted.inputs[at])
    np.testing.assert_array_equal(part.labels, drifted.labels[at])
    levels = {one.drift.level for one in find_drifts(spec)}
    assert levels <= {"input", "feature", "output", "none"}
    assert (drifted.inputs != RGB[kept]).any() == ("input" in levels)
    changed = (drifted.labels != PICTURES.labels[kept]).any() or len(kept) < len(PICTURES)
    assert changed == ("output" in levels)


@pytest.mark.parametrize("drift", drifts(), ids=lambda d: d.name)
def test_every_drift_says_what_it_is_and_refuses_nonsense(drift):
    assert drift.summary
    assert drift.usage.startswith(drift.name)
    for wrong in ("nonsense", "0", "-1", "nan", "6000", "1e999", ":"):
        with pytest.raises(DataError):
            apply_drift(PICTURES, f"{drift.name}:{wrong}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gausian_noise:5", "unknown drift 'gausian_noise': did you mean 'gaussian_noise'"),
        (
            "contrast:6",
            "'contrast:6': the severity has to be .* 1 to 5, not '6'; for example contrast:3",
        ),
        ("contrast", "not nothing; for example contrast:3"),
        ("labels:shuffle", "unknown drift 'labels:shuffle': did you mean"),
        ("labels:reverse:2", "nothing may follow the name"),
        ("labels:noise", "the share has to be a number above 0 and up to 1, not nothing"),
        ("labels:merge:a", "two classes have to follow"),
        ("labels:merge:a:z", "unknown class 'z'"),
        ("labels:merge:a:0", "merged with itself"),
        ("fog:2+", "unknown drift ''"),
        ("", "unknown drift ''"),
    ],
)
def test_bad_drifts_are_refused(spec, message):
    with pytest.raises(DataError, match=message):
        apply_drift(PICTURES, spec)


def test_pixel_drifts_want_pictures():
    floats = make_samples(np.zeros((2, 9), np.float32), [0, 1])
    with pytest.raises(DataError, match="works on uint8 pictures"):
        apply_drift(floats, "contrast:5")


def test_seeds_differ_and_parts_of_a_mixture_draw_for_themselves():
    one, two = (apply_drift(PICTURES, "gaussian_noise:5", seed=s).inputs for s in (0, 1))
    assert (one != two).any()
    gray = make_samples(np.full((8, 32, 32, 1), 128, np.uint8), np.zeros(8, int))
    single = apply_drift(gray, "gaussian_noise:1").inputs.astype(float) - 128
    double = apply_drift(gray, "gaussian_noise:1+gaussian_noise:1").inputs.astype(float) - 128
    # Independent noises add their variances; the same noise twice would double the deviation.
    assert double.std() / single.std() == pytest.approx(np.sqrt(2), rel=0.03)


# --- labels ----------------------------------------------------------------------------------

MANY = make_samples(np.zeros((6000, 1, 1), np.uint8), np.arange(6000) % 10)


def test_label_noise_and_class_prior_have_the_shares_asked_for():
    noisy = apply_drift(MANY, "labels:noise:0.3", seed=1).labels
    assert (noisy != MANY.labels).mean() == pytest.approx(0.3, abs=0.02)
    wrong = np.bincount((noisy - MANY.labels)[noisy != MANY.labels] % 10, minlength=10)
    assert wrong[1:].std() / wrong[1:].mean() < 0.15  # every other class as often
    shifted = apply_drift(MANY, "labels:prior:1", seed=1).labels
    shares = np.bincount(shifted, minlength=10) / len(shifted)
    np.testing.assert_allclose(shares, class_prior(10, 1, 1), atol=0.03)


@pytest.mark.parametrize(("share", "moved"), [(1.0, 10), (0.4, 4), (0.01, 2)])
def test_pair_swaps_move_the_share_asked_for_and_undo_themselves(share, moved):
    order = pair_swaps(10, share, seed=5)
    assert (order != np.arange(10)).sum() == moved
    np.testing.assert_array_equal(order[order], np.arange(10))


def test_a_merge_makes_one_class_of_two():
    merged = apply_drift(PICTURES, "labels:merge:b:e")
    assert merged.class_names == ("a", "b/e", "c", "d", "e", "f")
    assert merged.class_counts() == {"a": 4, "b/e": 8, "c": 4, "d": 4, "e": 0, "f": 4}


# --- schedules -------------------------------------------------------------------------------


def test_a_stream_follows_its_schedule_and_repeats_itself():
    stream = DriftStream(PICTURES, "clean,fog:1..5,fog:4..1,clean", batches=2, batch_size=5, seed=4)
    moments = list(stream)
    assert len(moments) == len(stream) == 22
    fog = [f"fog:{s}" for s in (1, 2, 3, 4, 5, 4, 3, 2, 1)]
    assert [m.drift for m in moments[::2]] == ["clean", *fog, "clean"]
    assert [m.step for m in moments] == [i // 2 for i in range(22)]
    for one, two in zip(moments, stream, strict=True):
        np.testing.assert_array_equal(one.samples.inputs, two.samples.inputs)
        np.testing.assert_array_equal(one.samples.inputs, apply_drift(
            PICTURES.subset(one.samples.ids), one.drift, 4).inputs)  # fmt: skip
    seen = np.concatenate([m.samples.ids for m in moments])
    assert sorted(seen[:24].tolist()) == list(range(24))  # every sample before any comes again
    other = next(iter(DriftStream(PICTURES, "clean", seed=5, batch_size=5))).samples.ids
    assert other.tolist() != moments[0].samples.ids.tolist()


def test_batches_are_full_though_a_drift_leaves_samples_out():
    stream = DriftStream(PICTURES, "clean,fog:2+labels:prior:0.5,labels:reverse", batches=4, batch_size=7)
    assert {len(m.samples) for m in stream} == {7}
    kept = set(apply_drift(PICTURES, "fog:2+labels:prior:0.5").ids.tolist())
    assert {i for m in stream if m.step == 1 for i in m.samples.ids.tolist()} <= kept


def test_a_stream_of_nothing_is_refused_at_once():
    with pytest.raises(DataError, match="a stream needs samples"):
        DriftStream(PICTURES.subset(slice(0, 0)), "clean")
    with pytest.raises(DataError, match="leaves none of its 1 samples"):
        DriftStream(PICTURES.subset(slice(0, 1)), "labels:prior:0.001", seed=2)


def test_bad_schedules_are_refused():
    assert parse_schedule("fog:2..2+labels:noise:0.2") == ("fog:2+labels:noise:0.2",)
    for text, message in (
        ("clean,fog:1..6", "'fog:6': the severity"),
        ("fog:1..2+snow:1..2", "two ranges"),
        ("clean,,fog:1", "unknown drift ''"),
    ):
        with pytest.raises(DataError, match=message):
            parse_schedule(text)
    with pytest.raises(DataError, match="at least one batch"):
        DriftStream(PICTURES, "clean", batches=0)


# --- folders in the shape of CIFAR-10-C --------------------------------------------------------


def test_what_is_written_is_what_a_drift_gives_whatever_the_workers(tmp_path):
    many = make_samples(np.resize(RGB, (CHUNK + 9, 32, 32, 3)), np.arange(CHUNK + 9) % 6)
    for workers, folder in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        written = write_corruptions(many, ["contrast", "impulse_noise"], folder, (1, 4), 3, workers)
        assert [p.name for p in written] == ["contrast.npy", "impulse_noise.npy"]
        for name in ("contrast", "impulse_noise"):
            back = read(folder, where={"corruption": name, "severity": "4"})
            np.testing.assert_array_equal(back.inputs, apply_drift(many, f"{name}:4", 3).inputs)
            np.testing.assert_array_equal(back.labels, many.labels)
            assert isinstance(back.inputs, np.memmap)
    whole = read(tmp_path / "one", where={"corruption": "contrast"})
    assert len(whole) == 2 * len(many)
    assert set(whole.attributes["severity"].tolist()) == {1, 4}


def test_a_folder_is_resumed_and_never_mixed(tmp_path):
    write_corruptions(PICTURES, ["contrast"], tmp_path, (5,))
    assert read(tmp_path).attributes["file"].tolist() == PICTURES.attributes["file"].tolist()
    before = (tmp_path / "contrast.npy").stat().st_mtime_ns
    assert [p.stem for p in write_corruptions(PICTURES, ["contrast", "fog"], tmp_path, (5,))] == ["fog"]
    assert (tmp_path / "contrast.npy").stat().st_mtime_ns == before
    for samples, severities, seed, what in (
        (PICTURES, (4,), 0, "severities"),
        (PICTURES, (5,), 1, "seed"),
        (PICTURES.subset(slice(1, 20)), (5,), 0, "made_of"),
    ):
        with pytest.raises(DataError, match=f"made from something else.*{what}"):
            write_corruptions(samples, ["snow"], tmp_path, severities, seed)
    with pytest.raises(DataError, match="made from something else"):
        write_drifted(PICTURES, "labels:reverse", tmp_path)
    np.save(tmp_path / "foreign.npy", RGB)
    (tmp_path / "about.npz").unlink()
    with pytest.raises(DataError, match="tbft did not write"):
        write_corruptions(PICTURES, ["snow"], tmp_path)
    floats = make_samples(np.zeros((2, 9), np.float32), [0, 1])
    with pytest.raises(DataError, match="uint8 pictures"):
        write_corruptions(floats, ["snow"], tmp_path / "floats")


def test_an_interrupted_command_leaves_whole_files_and_resumes(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.resize(RGB, (2000, 32, 32, 3)), y=np.arange(2000) % 6)
    out = tmp_path / "c"
    command = [sys.executable, "-m", "tbft", "data", "corrupt", str(tmp_path / "set.npz")]
    command += [
        "--corruptions",
        "contrast,glass_blur,elastic_transform",
        "--severity",
        "5",
        "--out",
        str(out),
    ]
    run = subprocess.Popen(
        [*command, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    while run.poll() is None and not (out / "contrast.npy").exists():
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGINT)
    stderr = run.communicate()[1].decode()
    left = {p.name for p in out.iterdir()}
    if run.returncode != 0:  # unless it was done before the signal came
        assert run.returncode == 130
        assert "Traceback" not in stderr
        assert "contrast.npy" in left
    assert not [name for name in left if name.endswith(".part")]
    assert main([*command[3:], "--workers", "1"]) == 0
    assert len(list(out.glob("*.npy"))) == 4


def test_the_loader_has_the_order_of_robustbench(tmp_path):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8) for name in COMMON[:3]}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "labels.npy", np.tile(np.arange(10), 5).astype(np.uint8))
    for data_dir in (tmp_path, folder):
        x, y = load_cifar10c(7, 3, data_dir, corruptions=COMMON[:3])
        assert x.shape == (7, 3, 32, 32)
        assert (str(x.dtype), str(y.dtype)) == ("torch.float32", "torch.int64")
        assert y.tolist() == [0, 1, 2, 0, 1, 2, 0]
        expected = np.concatenate([arrays[name][20:23] for name in COMMON[:3]])[:7]
        np.testing.assert_array_equal(x.numpy(), expected.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.random.seed(1)
    shuffled = load_cifar10c(9, 3, tmp_path, True, COMMON[:3])[1]
    np.random.seed(1)
    assert shuffled.tolist() == np.tile([0, 1, 2], 3)[np.random.permutation(9)].tolist()
    for arguments, message in (
        ((5, 6, tmp_path), "severity"),
        ((0, 5, tmp_path), "at least one example"),
        ((5, 5, tmp_path / "none"), "tbft data fetch cifar10-c"),
        ((5, 5, tmp_path, False, ["fog"]), "unknown corruption 'fog'"),
    ):
        with pytest.raises(DataError, match=message):
            load_cifar10c(*arguments)


# --- sheets and commands -----------------------------------------------------------------------


def test_sheets_show_every_step_and_every_class():
    severities = np.asarray(scenario_sheet("contrast", PICTURES))
    assert severities.shape[0] == 6 * (
        64 + 2 + 14
    )  # clean and five severities, twice the size, with captions
    spread = [row.std() for row in np.split(severities[:, 80:], 6)]
    assert spread == sorted(spread, reverse=True)
    assert set_sheet(PICTURES).height == 6 * 66
    film = scenario_sheet("clean,contrast:5", PICTURES)
    assert film.height == 2 * 80


@pytest.mark.parametrize("scenario", ["fog", "gaussian_noise:3+labels:reverse", "clean,fog:1..2"])
def test_show_draws_a_scenario_on_photos(tmp_path, scenario, capsys):
    assert main(["data", "show", scenario, "--out", str(tmp_path / "sheet.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 128


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("data show foog --out a.png", "unknown drift 'foog': did you mean 'fog'"),
        ("data show fog --drift fog:1", "is itself a drift"),
        ("data show missing/folder", "no such file"),
        ("data corrupt set.npz --out c", "one of --all"),
        ("data corrupt set.npz --all --drift fog:1 --out c", "one of --all"),
        ("data corrupt set.npz --all --severity 7 --out c", "'7'"),
        ("data corrupt set.npz --drift fog:1 --severity 1 --out c", "--severity is for"),
        ("data corrupt set.npz --corruptions fgo --out c", "did you mean 'fog'"),
        ("data corrupt set.npz --all --workers 0 --out c", "at least 1"),
        ("data show set.npz --data set.npz", "is a set"),
    ],
)
def test_wrong_commands_are_reported_in_one_line(tmp_path, monkeypatch, capsys, command, message):
    monkeypatch.chdir(tmp_path)
    np.savez("set.npz", x=RGB, y=PICTURES.labels)
    assert main(command.split()) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1
    assert [p.name for p in Path.cwd().iterdir()] == ["set.npz"]


def test_the_page_of_drifts_lists_what_is_registered(capsys):
    assert main(["data", "list", "--markdown"]) == 0
    listed = capsys.readouterr().out
    page = (Path(__file__).parents[1] / "docs" / "drifts.md").read_text()
    assert listed in page, "run: make readme"
    assert main(["data", "list"]) == 0
    assert all(drift.usage in capsys.readouterr().out for drift in drifts()[:1])
