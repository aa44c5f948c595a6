"""Base models that ship: weights, source card, and what is said of their making."""

from __future__ import annotations

import json

import pytest

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.diagnosis.card import SourceCard
from tbft.errors import CheckpointError
from tbft.models import find_model, presets

SHIPPED = [preset.name for preset in presets() if preset.weights is not None]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_base_comes_with_its_card_and_its_story(name):
    preset = find_model(name)
    model = preset.load()
    card = SourceCard.load(preset.card)
    assert card.base_fingerprint == fingerprint(model.state_dict())
    story = json.loads(preset.weights.with_suffix(".json").read_text())
    assert card.accuracy == pytest.approx(story["val_accuracy"], abs=0.002)
    told = preset.weights.with_suffix(".md").read_text()
    assert f"{100 * story['val_accuracy']:.1f} %" in told
    assert "license" in told


def test_a_preset_without_weights_says_so():
    with pytest.raises(CheckpointError, match="ships without weights"):
        find_model("resnet20-cifar10").load()


@pytest.mark.data
def test_a_shipped_base_needs_neither_weights_nor_card(data_dir, capsys):
    tiny = data_dir / "tiny17"
    command = (
        f"diagnose resnet26-tiny17 --data {tiny}/target.tar --classes {tiny}/splits.json --samples 5/class"
    )
    assert main([*command.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evidence"]["has_card"] is True


@pytest.mark.data
def test_the_example_of_the_readme_does_what_it_says_there(data_dir, tmp_path, capsys):
    """With fewer samples: the shipped CIFAR-10 base, sensor noise that it was not told about, and a patch."""
    command = (
        f"personalize resnet26-cifar10-jpeg --data {data_dir}/cifar10/test.tar --drift gaussian_noise:5 "
        f"--train 300 --val 300 --test 600 --out {tmp_path}/user.safetensors --json"
    )
    assert main(command.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["choice"]["diagnosis"]["levels"] == ["input"]
    assert found["accuracy_after"] > found["accuracy_before"] + 0.1
    assert (tmp_path / "user.safetensors").stat().st_size < 200_000
