"""The suite of shifts for the selector benchmark: models, drifts, halves and splits, as data.

The development half is for setting thresholds and expectations, the evaluation half only for the figures.
The halves were fixed by name before anything was measured on them: the drifts that the recipe ``fast`` was
developed on (Gaussian noise, contrast, glass blur, fog, label reversal) are in the development half.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tbft.blocks import Blocks
from tbft.data import Samples, make_samples, read, split_samples
from tbft.models import find_model
from tbft.scenarios import apply_drift, find_class_map

#: Corruptions of each half, the same for every model.
CORRUPTIONS = {
    "development": (
        "gaussian_noise", "contrast", "glass_blur", "fog", "brightness",
        "defocus_blur", "jpeg_compression", "pixelate", "spatter",
    ),
    "evaluation": (
        "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "motion_blur",
        "zoom_blur", "saturate", "elastic_transform", "snow", "frost",
    ),
}  # fmt: skip
SEVERITIES = (1, 3, 5)
#: Drift, seed of the drift, levels, half.
LABELS = (
    ("labels:reverse", 0, "output", "development"),
    ("labels:permute", 1, "output", "development"),
    ("labels:swap:0.4", 0, "output", "development"),
    ("labels:noise:0.4", 0, "output", "development"),
    ("labels:permute", 2, "output", "evaluation"),
    ("labels:permute", 3, "output", "evaluation"),
    ("labels:swap", 0, "output", "evaluation"),
    ("labels:swap:0.6", 5, "output", "evaluation"),
    ("labels:noise:0.2", 0, "output", "evaluation"),
)
MIXTURES = (
    ("gaussian_noise:3+labels:reverse", 0, "input+output", "development"),
    ("fog:5+labels:swap:0.4", 0, "input+output", "development"),
    ("shot_noise:3+labels:permute", 4, "input+output", "evaluation"),
    ("snow:5+labels:swap", 1, "input+output", "evaluation"),
)
#: For the Tiny-17 base: domain, leaves of each class to keep (None: all), drift, seed, levels, half.
TINY17 = (
    ("target", 0, "clean", 0, "feature", "development"),
    ("target", 1, "clean", 0, "feature", "evaluation"),
    ("target", None, "clean", 0, "feature", "evaluation"),
    ("source", None, "gaussian_noise:3", 0, "input", "development"),
    ("source", None, "motion_blur:3", 0, "input", "evaluation"),
    ("source", None, "labels:reverse", 0, "output", "development"),
    ("source", None, "labels:permute", 2, "output", "evaluation"),
    ("target", None, "gaussian_noise:3", 0, "input+feature", "development"),
    ("target", None, "snow:3", 0, "input+feature", "evaluation"),
)
#: For the released Living-17 model; its 205 photos allow 2 labels per class and no source card.
LIVING17 = (
    ("target", None, "clean", 0, "feature", "evaluation"),
    ("source", None, "gaussian_noise:3", 0, "input", "development"),
    ("source", None, "shot_noise:3", 0, "input", "evaluation"),
    ("source", None, "labels:permute", 2, "output", "evaluation"),
    ("source", None, "clean", 0, "none", "evaluation"),
)
CIFAR_MODELS = ("resnet26-cifar10", "resnet20-cifar10")
MODELS = (*CIFAR_MODELS, "resnet26-tiny17", "resnet26-living17")
#: Labeled samples per class.
LABELED = (100, 10, 2, 50, 5)


@dataclass(frozen=True)
class Shift:
    """A drift for a model."""

    model: str
    drift: str
    seed: int  # of the drift
    levels: str  # joined by +; ``none`` for clean
    half: str
    domain: str = "test"
    leaf: int | None = None

    @property
    def name(self) -> str:
        parts = [self.model, self.domain, "" if self.leaf is None else f"leaf{self.leaf}", self.drift]
        return "/".join([part for part in parts if part]) + (f"#{self.seed}" if self.seed else "")

    @property
    def severity(self) -> int | None:
        last = self.drift.rpartition(":")[2]
        return int(last) if self.levels == "input" and last.isdigit() else None


def suite() -> list[Shift]:
    """All shifts, including clean ones."""
    shifts = []
    for model in CIFAR_MODELS:
        for half, names in CORRUPTIONS.items():
            shifts += [Shift(model, f"{n}:{s}", 0, "input", half) for s in SEVERITIES[::-1] for n in names]
        shifts += [Shift(model, *row) for row in LABELS + MIXTURES]
        shifts += [Shift(model, "clean", 0, "none", half) for half in CORRUPTIONS]
    for model, rows in (("resnet26-tiny17", TINY17), ("resnet26-living17", LIVING17)):
        for domain, leaf, drift, seed, levels, half in rows:
            shifts.append(Shift(model, drift, seed, levels, half, domain, leaf))
    return shifts + [Shift("resnet26-tiny17", "clean", 0, "none", half, "source") for half in CORRUPTIONS]


@cache
def model_blocks(model: str) -> Blocks:
    """The base model with its weights, cut into blocks."""
    checkpoints = Path(os.environ["TBFT_DATA"]) / "checkpoints"
    weights = {
        "resnet26-cifar10": checkpoints / "resnet26_cifar10_released.pth",
        "resnet20-cifar10": checkpoints / "resnet20_cifar10_akamaster.th",
        "resnet26-living17": checkpoints / "resnet26_living17_released.pth",
    }
    preset = find_model(model)
    return preset.split(preset.load(weights.get(model)))


@cache
def source_parts(model: str) -> tuple[Samples, Samples]:
    """Held-out source samples: those for the card, and those that shifts draw from."""
    data, preset = Path(os.environ["TBFT_DATA"]), find_model(model)
    if model == "resnet26-tiny17":
        class_map = find_class_map(data / "tiny17" / "splits.json")
        source = read(data / "tiny17" / "source.tar", preset.inputs, class_map=class_map)
        held_out = split_samples(source, "rest", 0.1, 0, 0).val  # not used in its training
        parts = split_samples(held_out, 0.5, 0, 0.5, 0, "none")
    else:
        parts = split_samples(read(data / "cifar10" / "test.tar", preset.inputs), 0.2, 0, 0.8, 0)
    return parts.train, parts.test


@cache
def clean_pool(model: str, domain: str, leaf: int | None) -> Samples:
    data, preset = Path(os.environ["TBFT_DATA"]), find_model(model)
    if model == "resnet26-living17":
        return _photos(data / "living17", domain)
    if domain != "target":
        return source_parts(model)[1]
    class_map = find_class_map(data / "tiny17" / "splits.json")
    samples = read(data / "tiny17" / "target.tar", preset.inputs, class_map=class_map)
    if leaf is None:
        return samples
    leaves = np.asarray(samples.attributes["leaf"])
    wanted = [np.unique(leaves[samples.labels == c])[leaf] for c in np.unique(samples.labels)]
    return samples.subset(np.flatnonzero(np.isin(leaves, wanted)))


def _photos(folder: Path, domain: str) -> Samples:
    """The photos of all three sets; the model may have been trained on some of the second one."""
    spec = find_model("resnet26-living17").inputs
    sets = [read(path, spec, {"domain": domain}) for path in sorted(folder.glob("*.npz"))]
    inputs, labels = (np.concatenate([getattr(part, name) for part in sets]) for name in ("inputs", "labels"))
    return make_samples(inputs, labels, sets[0].class_names, name=f"living17 photos, {domain}")


def test_samples(shift: Shift) -> int:
    return 2000 if shift.domain != "source" else 380


def _parts(shift: Shift, labeled: int, seed: int) -> tuple[Samples, Samples] | None:
    """Labeled samples to adapt to and a test part, before the drift; None if there are too few."""
    pool = clean_pool(shift.model, shift.domain, shift.leaf)
    asked = labeled * len(pool.class_names)
    if shift.model == "resnet26-living17":  # too few to leave any out, so all others are for testing
        if len(pool) < 3 * asked:
            return None
        parts = split_samples(pool, "rest", 0, f"{labeled}/class", seed, "none")
        return parts.test, parts.train
    if len(pool) < 1.05 * asked + test_samples(shift):
        return None
    parts = split_samples(pool, f"{labeled}/class", 0, test_samples(shift), seed, "none")
    return parts.train, parts.test


def train_of(shift: Shift, labeled: int, seed: int) -> Samples | None:
    """Only the labeled samples, with the drift."""
    parts = _parts(shift, labeled, seed)
    return None if parts is None else apply_drift(parts[0], shift.drift, shift.seed)


def parts_of(shift: Shift, labeled: int, seed: int) -> tuple[Samples, Samples] | None:
    """The labeled samples and the test part, with the drift."""
    parts = _parts(shift, labeled, seed)
    if parts is None:
        return None
    train, test = (apply_drift(part, shift.drift, shift.seed) for part in parts)
    return train, test
