"""Preprocessing and statistics of inputs travel with cards and patches; what contradicts them is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tbft
from tbft.cli import main
from tbft.data.prepared import prepared
from tbft.data.spec import InputSpec
from tbft.diagnosis.card import SourceCard
from tbft.errors import CardError, DataError, TbftWarning
from tbft.loading import as_base
from tbft.patches import Patch

COLORS = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]])
MODULE = """
import torch
from torch import nn
from tbft.data.spec import InputSpec

class Nearest(nn.Module):
    def __init__(self):
        super().__init__()
        wanted = InputSpec(mean="imagenet").preprocessing
        colors = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]])
        centers = (colors - torch.tensor(wanted.mean)) / torch.tensor(wanted.std)
        self.front = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.rear = nn.Linear(3, 3)
        self.rear.weight.data = 2 * centers
        self.rear.bias.data = -(centers**2).sum(1)

    def forward(self, x):
        return self.rear(self.front(x))

def nearest():
    model = Nearest()
    model.cuts = ("rear",)
    return model
"""
WIDE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[3].weight.data = 4 * torch.eye(3)
    return model
"""


def pictures(count=120, side=8, seed=0, shift=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noisy = COLORS[labels][:, None, None] + rng.normal(0, 0.1, (count, side, side, 3))
    return (noisy.clip(0, 1) * 255).astype(np.uint8), (labels + shift) % 3


@pytest.fixture
def nearest(tmp_path, monkeypatch):
    """The name of a model that is trained on normalized pictures, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "colornets.py").write_text(MODULE)
    np.savez("source.npz", x=pictures()[0], y=pictures()[1])
    yield "colornets:nearest"
    import sys

    sys.modules.pop("colornets", None)


def run(capsys, *words):
    status = main([w for word in words for w in word.split()])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_card_at_chance_is_refused_with_the_option_and_what_it_needs_is_kept(nearest, capsys):
    build = f"card build {nearest} --data source.npz --out c.safetensors"
    status, _, err = run(capsys, build, "--mean 0.7,0.7,0.7 --std 9,9,9")
    assert status == 2
    assert "--mean imagenet" in err
    assert run(capsys, build, "--mean imagenet")[0] == 0
    x, y = pictures(90, side=12, seed=1, shift=1)  # other labels, and another size
    np.savez("target.npz", x=x, y=y)
    adapt = f"personalize {nearest} --data target.npz --card c.safetensors --arm rear --epochs 60 --json"
    status, out, err = run(capsys, adapt, "--out p.safetensors")
    assert (status, json.loads(out)["accuracy_before"]) == (0, 0)
    assert "as for the source card: center crop, 8 px; mean 0.485, 0.456, 0.406" in err
    assert "12x12 px are fitted to 8x8" in err
    kept = Patch.load("p.safetensors").header.preprocessing
    assert (kept["resolution"], kept["mean"]) == (8, [0.485, 0.456, 0.406])
    evaluate = f"evaluate {nearest} --data target.npz --patch p.safetensors --json"
    status, out, err = run(capsys, evaluate)
    assert (status, json.loads(out)["score"]) == (0, 1)
    assert "as for the patch" in err
    for command, where in ((adapt, "the source card"), (evaluate, "the patch")):
        status, _, err = run(capsys, command, "--mean half")
        assert status == 2
        assert f"not that of {where}: mean is 0.5 here and 0.485, 0.456, 0.406 there" in err


def linear():
    rear = nn.Linear(3, 3)
    rear.weight.data, rear.bias.data = torch.eye(3), torch.zeros(3)
    return rear


def model():
    return tbft.split(nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), linear()), ["1"])


def test_preprocessing_of_the_card_reaches_samples_in_every_form():
    net = model()
    spec = InputSpec(mean="half")
    x, y = pictures()
    source = tbft.make_samples(x, y, spec=spec)
    card = tbft.build_card(net, source)
    assert card.preprocessing == prepared(source)
    larger, labels = pictures(60, side=12, seed=2)
    plain = tbft.make_samples(larger, labels)
    items = [(Image.fromarray(p), int(c)) for p, c in zip(larger, labels, strict=True)]
    for data in ((larger, labels), plain, items, tbft.split_samples(plain, 60, 0, 0)):
        result = tbft.personalize(net, data, card=card, arm="1")
        train = result.parts.train
        assert train.inputs.shape[1:] == (8, 8, 3)
        assert train.preprocessing.mean == (0.5,)
        assert any("source card" in note for note in result.notes)
        assert result.patch.header.preprocessing in ({}, card.preprocessing) or result.status != "patched"
    with pytest.raises(DataError, match=r"mean is 0\.5 here and 0\.485"):
        tbft.diagnose(net, tbft.make_samples(x, y, spec=InputSpec(mean="imagenet")), card=card)


def test_what_was_not_said_is_not_taken_from_a_card():
    x, y = pictures()
    normalized = torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1
    samples = tbft.make_samples(normalized, y)
    assert prepared(samples) == {}
    card = tbft.build_card(model(), samples)
    assert tbft.diagnose(model(), (normalized, y), card=card).name == "none"
    with pytest.raises(DataError, match=r"not normalized, but those of the source were.*--mean"):
        tbft.diagnose(model(), (x, y), card=card)
    given = tbft.make_samples(x, y, spec=InputSpec(mean="half"))
    assert tbft.diagnose(model(), given, card=card).name == "none"


def test_inputs_in_another_unit_or_of_another_size_are_not_drift():
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    windows = rng.normal(0, 1, (150, 3, 20)) + 3 * np.eye(3)[labels][:, :, None]
    net = tbft.split(nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()), linear()), ["1"])
    card = tbft.build_card(net, (windows, labels))
    assert card.preprocessing == {"mean": [0.0], "std": [1.0], "channel_order": "RGB"}
    for arm in (None, "full"):
        for other, message in (
            (windows * 1e6, "vary .* times as much"),
            (windows * 9.80665, "m/s² instead of g"),
            (windows[:, :, :15], "shape 3x15, those of the source 3x20"),
        ):
            with pytest.raises(DataError, match=message):
                tbft.personalize(net, (other, labels), card=card, arm=arm)
    assert tbft.diagnose(net, (windows + 2, labels), card=card).verdict == "drift"


def test_inputs_that_may_be_in_another_unit_are_noted_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wide.py").write_text(WIDE)
    rng, labels = np.random.default_rng(0), np.arange(150) % 3
    windows = rng.normal(0, 1, (150, 3, 20)) + 3 * np.eye(3)[labels][:, :, None]
    for name, x in (("source", windows), ("tens", windows * rng.uniform(8, 12, (1, 3, 1)))):
        np.savez(tmp_path / f"{name}.npz", x=x.astype(np.float32), y=labels)
    card, noted = ["--card", "c.safetensors"], r"vary [\d.]+ times as much as those of the source \(.*\)"
    assert main(["card", "build", "wide:net", "--data", "source.npz", "--out", "c.safetensors"]) == 0
    commands = (["evaluate"], ["diagnose"], ["forecast"], ["personalize", "--arm", "ridge", "--val", "0.3"])
    for name, *options in commands:
        given = [name, "wide:net", *card, *options, "--json", "--data"]
        capsys.readouterr()
        assert main([*given, "tens.npz"]) != 2
        out, err = capsys.readouterr()
        assert sum(bool(re.search(noted, note)) for note in json.loads(out)["notes"]) == 1
        assert len(re.findall(noted, err)) == 1
        assert main([*given, "source.npz"]) != 2
        assert "another unit" not in "".join(capsys.readouterr())
    own = tbft.personalize("wide:net", "source.npz", arm="ridge", card="c.safetensors", test="tens.npz")
    assert any(re.search("test: the inputs vary .* the training samples", note) for note in own.notes)
    with pytest.warns(TbftWarning, match=noted):
        tbft.diagnose("wide:net", "tens.npz", card="c.safetensors")


def test_a_card_of_another_model_is_named_before_the_inputs_that_differ_with_it():
    labels = np.arange(120) % 3
    table = np.random.default_rng(0).normal(0, 0.1, (120, 3)) + np.eye(3)[labels]
    own = nn.Sequential(nn.BatchNorm1d(3), nn.Identity(), linear())
    other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    card, base = tbft.build_card(own, (table, labels)), tbft.split(other)
    with pytest.raises(CardError, match="another base model"):
        as_base(base, card).checked(tbft.make_samples(np.eye(4).repeat(9, 0), np.arange(36) % 3))


def test_a_card_of_an_earlier_version_knows_nothing_of_inputs(tmp_path):
    card = tbft.build_card(model(), pictures())
    older = replace(card, preprocessing={}, inputs=None)
    older.check_inputs(tbft.make_samples(*pictures(side=12)))
    broken = replace(card, preprocessing={"mean": [0.5], "std": [0.0]})
    broken.save(tmp_path / "c.safetensors")
    with pytest.raises(CardError, match="std has to be positive"):
        SourceCard.load(tmp_path / "c.safetensors")
