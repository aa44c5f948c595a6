"""On the real checkpoints and pictures: the published figures, and the main job end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.data import make_samples, read, split_samples
from tbft.front_door import build_card, diagnose
from tbft.models import find_model, load_weights, read_state_for
from tbft.patches import Patch
from tbft.scenarios import apply_drift, find_class_map
from tbft.verification.evaluation import evaluate_samples
from tbft.verification.running import predict

pytestmark = pytest.mark.data

#: The paper's: a tenth to train on.
PARTS = ("--train", "0.1", "--val", "0.05", "--test", "0.15")


def load(data_dir, preset_name, checkpoint):
    preset = find_model(preset_name)
    model = preset.build()
    load_weights(model, data_dir / "checkpoints" / checkpoint)
    return preset, model


def test_the_released_resnet26_on_the_jpeg_copy_of_cifar10(data_dir):
    preset, model = load(data_dir, "resnet26-cifar10", "resnet26_cifar10_released.pth")
    samples = read(data_dir / "cifar10" / "test.tar", preset.inputs)
    assert evaluate_samples(model, samples).accuracy == pytest.approx(0.7903, abs=2e-4)


def test_a_third_partys_resnet20(data_dir):
    preset, model = load(data_dir, "resnet20-cifar10", "resnet20_cifar10_akamaster.th")
    samples = read(data_dir / "cifar10" / "test.tar", preset.inputs)
    assert evaluate_samples(model, samples).accuracy > 0.8  # 91.7 % on lossless pictures, trained on those


@pytest.mark.parametrize(("domain", "right", "count"), [("source", 50, 54), ("target", 18, 48)])
def test_the_released_living17_model_on_real_photos(data_dir, domain, right, count):
    preset, model = load(data_dir, "resnet26-living17", "resnet26_living17_released.pth")
    samples = read(data_dir / "living17" / "ilsvrc_val_acuity.npz", preset.inputs, {"domain": domain})
    result = evaluate_samples(model, samples)
    assert (round(result.accuracy * count), result.sample_count) == (right, count)


@pytest.mark.parametrize(
    ("drift", "level", "arm", "before", "after"),
    [("gaussian_noise:5", "input", "front", 0.21, 0.66), ("labels:reverse", "output", "fc", 0.03, 0.72)],
)
def test_the_main_job(data_dir, tmp_path, capsys, drift, level, arm, before, after):
    weights = data_dir / "checkpoints" / "resnet26_cifar10_released.pth"
    out = tmp_path / "user.safetensors"
    command = f"personalize resnet26-cifar10 --weights {weights} --data {data_dir}/cifar10/test.tar"
    assert (
        main([*command.split(), "--drift", drift, "--level", level, "--out", str(out), "--json", *PARTS]) == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert (result["arm"], result["train_samples"]) == (arm, 1000)
    assert result["accuracy_before"] == pytest.approx(before, abs=0.01)
    assert result["accuracy_after"] >= after
    patch = Patch.load(out)
    base = read_state_for(weights, patch.tensors, {patch.header.base_fingerprint})
    tuned = patch.applied_to(base)
    assert fingerprint(tuned) == result["tuned_fingerprint"]


def test_a_model_sees_no_difference_between_our_corruptions_and_the_official_ones(data_dir):
    from scipy.stats import binomtest

    preset, model = load(data_dir, "resnet26-cifar10", "resnet26_cifar10_released.pth")
    with np.load(data_dir / "cifar10" / "corruption_reference.npz") as reference:
        labels = [preset.inputs.class_names.index(f.split("/")[1]) for f in reference["files"].tolist()]
        clean = make_samples(reference["clean"], labels, preset.inputs.class_names)
        names = [key for key in reference.files if key not in ("clean", "files")]
        assert len(names) == 57
        for key in names:
            name, _, severity = key.rpartition("_")
            ours = apply_drift(clean, f"{name}:{severity}", seed=1)
            official = replace(clean, inputs=reference[key])
            right = [predict(model, s).argmax(1).numpy() == s.labels for s in (ours, official)]
            differ, only_ours = int((right[0] != right[1]).sum()), int((right[0] & ~right[1]).sum())
            # Exact sign test on the pictures that only one gets right, corrected for 57 sets.
            assert differ == 0 or binomtest(only_ours, differ).pvalue > 0.05 / 57, key


@pytest.mark.parametrize(
    ("drift", "levels"),
    [("clean", ()), ("gaussian_noise:5", ("input",)), ("fog:3", ("input",)), ("labels:reverse", ("output",)),
     ("gaussian_noise:3+labels:reverse", ("input", "output"))],
)  # fmt: skip
def test_the_level_is_diagnosed_from_ten_labels_per_class(data_dir, drift, levels):
    preset, model = load(data_dir, "resnet26-cifar10", "resnet26_cifar10_released.pth")
    parts = split_samples(read(data_dir / "cifar10" / "test.tar", preset.inputs), "10/class", 500, 0, 0)
    blocks = preset.split(model)
    card = build_card(blocks, parts.val)
    assert diagnose(blocks, apply_drift(parts.train, drift), card=card).levels == levels


def test_other_subpopulations_are_distinguished_from_other_inputs(data_dir):
    preset = find_model("resnet26-tiny17")
    model = preset.load()
    class_map = find_class_map(data_dir / "tiny17" / "splits.json")
    source, target = (
        read(data_dir / "tiny17" / f"{domain}.tar", preset.inputs, class_map=class_map)
        for domain in ("source", "target")
    )
    blocks = preset.split(model)
    held_out = split_samples(source, "rest", 0.1, 0, 0).val  # what its training did not see
    card = build_card(blocks, held_out.subset(range(0, len(held_out), 3)))
    assert card.accuracy == pytest.approx(0.7275, abs=0.04)
    parts = split_samples(target, "10/class", 0, 10, 0)
    assert diagnose(blocks, parts.train, card=card).levels == ("feature",)
