"""What was read is said, and what may be wrong with it is found."""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
import pytest
from messy import picture, write_messy_tree, write_tree, write_windows
from PIL import Image

from tbft.cli import main
from tbft.cli.data_options import add_data, load_samples
from tbft.cli.parts_options import add_parts, load_parts
from tbft.data import InputSpec, as_parts, make_samples, read
from tbft.data.amounts import SplitBy
from tbft.data.quality import find_problems
from tbft.data.summary import describe
from tbft.errors import DataError


def test_a_summary_says_what_was_read_and_how_it_is_parted(tmp_path):
    samples = read(write_windows(tmp_path / "w.npz", subject=np.arange(60) // 6, note=np.arange(60)))
    parts = as_parts(samples)
    summary = describe(samples, parts)
    assert summary.part_counts["val"] == parts.val.class_counts()
    text = str(summary)
    assert "60 samples of 3 classes, float32 3x20 in [" in text
    assert "  train: 48 (0 16, 1 16, 2 16)\n  val: 12 (0 4, 1 4, 2 4)\n  test: 0\n" in text
    assert "  attributes: subject (10 values), note (another value for each sample)\n" in text
    assert "  - held out: 12 of 60 to decide acceptance (by subject)" in text
    values = json.loads(json.dumps(summary.to_json()))
    assert (values["samples"], values["group_by"], values["class_counts"]["0"]) == (60, "subject", 20)
    assert values["notes"] == list(summary.notes)


def test_a_summary_of_a_thousand_classes_is_short():
    labels = np.r_[np.arange(1000), np.arange(990)]
    names = [f"class{i}" for i in range(1200)]
    samples = make_samples(np.zeros((1990, 2, 2), np.uint8), labels, names)
    text = str(describe(samples, as_parts(samples)))
    assert len(text) < 1000
    assert "fewest of class990, class991, class992 and 7 more; none of class1000" in str(describe(samples))


def test_a_summary_names_the_preprocessing():
    spec = InputSpec(mean="imagenet", channels=3)
    samples = make_samples(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1], spec=spec)
    assert "preprocessing: mean 0.485" in str(describe(samples))


def test_a_messy_tree_is_checked(tmp_path):
    found = {
        p.kind: p for p in find_problems(read(write_messy_tree(tmp_path / "s"), InputSpec(skip_damaged=True)))
    }
    assert set(found) == {"copies", "contradictions", "lookalikes", "single"}
    assert [found["copies"].count, found["copies"].examples] == [1, [["cat/0 (1).png", "cat/0.png"]]]
    assert found["contradictions"].examples == [["cat/1.png", "dog/cat.png"]]
    assert found["lookalikes"].examples == [["dog/2.jpg", "dog/2.png"]]
    assert "1 class with a single sample: eel" in str(found["single"])


def test_a_sound_set_has_no_problems(tmp_path):
    assert find_problems(read(write_tree(tmp_path / "s"))) == []
    assert find_problems(read(write_windows(tmp_path / "w.npz"))) == []


def test_uneven_and_absent_classes_are_found():
    pictures = np.stack([np.asarray(picture(i)) for i in range(26)])
    samples = make_samples(pictures, [0] * 24 + [1] * 2, ["a", "b", "c"])
    kinds = {p.kind: str(p) for p in find_problems(samples)}
    assert "24 samples of a, 2 of b" in kinds["imbalance"]
    assert "1 class without samples: c" in kinds["absent"]


def test_check_prints_what_is_wrong_and_exits_with_1_or_2_if_files_are_damaged(tmp_path, capsys):
    write_messy_tree(tmp_path / "s")
    assert main(["data", "check", str(tmp_path / "s")]) == 2
    out = capsys.readouterr().out
    assert "16 samples of 3 classes" in out
    assert "dog/9.png" in out
    assert main(["data", "check", str(tmp_path / "s"), "--json"]) == 2
    kinds = [p["kind"] for p in json.loads(capsys.readouterr().out)["problems"]]
    assert kinds == ["damaged", "contradictions", "copies", "lookalikes", "single"]
    assert main(["data", "check", str(tmp_path / "s"), "--skip-damaged"]) == 1
    capsys.readouterr()
    assert main(["data", "check", str(write_tree(tmp_path / "sound"))]) == 0
    assert "no problems found" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2


def test_show_says_the_same_in_json_and_on_stderr(tmp_path, capsys):
    path = write_windows(tmp_path / "w.npz", site=np.repeat(["a", "b", "c"], 20))
    assert main(["data", "show", str(path), "--json", "--where", "site=a", "--where", "site=c"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["samples"] == 40
    assert "40 samples of 3 classes" in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--where site=d", "site is one of a, b, c"),
        ("--where site", "write KEY=VALUE"),
        ("--keys X", "write inputs=X,labels=Y"),
        ("--resize 4", "resize needs a resolution"),
        ("--drift nothing", "unknown drift"),
        ("--classes nowhere", "nowhere"),
    ],
)
def test_wrong_data_options_are_refused(tmp_path, capsys, options, message):
    path = write_windows(tmp_path / "w.npz", site=np.repeat(["a", "b", "c"], 20))
    assert main(["data", "show", str(path), *options.split()]) == 2
    assert message in capsys.readouterr().err


def test_windows_are_trained_on_and_diagnosed_in_words_that_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net1d.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(0)\n"
        "    m = nn.Sequential(nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1),\n"
        "        nn.Flatten(), nn.Linear(8, 3))\n"
        "    m.cuts, m.block_names = ['5'], ['front', 'rear']\n    return m\n"
    )
    write_windows(tmp_path / "w.npz", 120, subject=np.arange(120) // 6)
    train = "train net1d:net --data w.npz --out base.safetensors --epochs 12 --batch-size 16 --json"
    assert main(train.split()) == 0
    captured = capsys.readouterr()
    assert "no random crops and mirroring" in captured.err
    assert json.loads(captured.out)["data"]["group_by"] == "subject"
    base = "net1d:net --weights base.safetensors --data w.npz"
    assert main(f"card build {base} --out base.card.safetensors".split()) == 0
    capsys.readouterr()
    assert main(f"diagnose {base} --card base.card.safetensors --json".split()) == 0
    shift = json.loads(capsys.readouterr().out)["evidence"]["shift"]
    assert list(shift["pixels"]) == ["mean", "spread", "steps", "channel spread"]


def test_parts_of_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_data(parser)
    add_parts(parser)
    write_windows(tmp_path / "w.npz", subject=np.arange(60) // 6, start=np.arange(60))
    write_windows(tmp_path / "own.npz")

    def parts(options: str) -> list[int]:
        arguments = parser.parse_args(f"--data w.npz {options}".split())
        by = SplitBy(arguments.seed, arguments.group_by, arguments.order)
        made = load_parts(arguments, load_samples(arguments), InputSpec(), by)
        return [len(made.train), len(made.val), len(made.test)]

    assert parts("") == [48, 12, 0]
    assert parts("--val 0") == [60, 0, 0]
    assert parts("--train 30 --val 0 --test rest") == [30, 0, 30]
    assert parts("--test 20% --val 6") == [42, 6, 12]
    assert parts("--test-data own.npz") == [48, 12, 60]
    assert parts("--train first:40% --group-by none --val 0") == [24, 0, 36]
    assert parts("--train 50% --order none --group-by none") == [24, 6, 0]
    for options, message in (
        ("--test 10 --test-data own.npz", "give one of them"),
        ("--test rest", "cannot both be the rest"),
        ("--val first:3", "first: is for train"),
        ("--val rest", "val part cannot be the rest"),
    ):
        with pytest.raises(DataError, match=message):
            parts(options)


def test_copies_in_two_parts_of_a_tree_and_damage_are_said_once(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for i in range(count):
            place = tmp_path / "s" / part / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(place / f"{i}.png")
    shutil.copy(tmp_path / "s/train/a/0.png", tmp_path / "s/test/a/again.png")
    (tmp_path / "s/test/b/cut.png").write_bytes((tmp_path / "s/train/a/2.png").read_bytes()[:300])
    assert main(["data", "check", str(tmp_path / "s")]) == 2
    out = capsys.readouterr().out
    assert "  test: 3 (a 2, b 1)\n  train: 4 (a 2, b 2)" in out
    assert "1 sample is an exact copy of one in another part:\n    test/a/again.png = train/a/0.png" in out
    assert out.count("cut.png") == 1


@pytest.mark.parametrize("folder", ["labels", "images"])
def test_pictures_with_boxes_are_refused_with_what_gives_them_classes(tmp_path, folder):
    write_tree(tmp_path, ("images",))
    (tmp_path / folder).mkdir(exist_ok=True)
    for file in list((tmp_path / "images").iterdir()):
        (tmp_path / folder / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"\(YOLO\), and no class: .* one class for each picture") as refused:
        read(tmp_path)
    assert "--layout" not in str(refused.value)
