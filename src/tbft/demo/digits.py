"""The demo's data: real handwritten digits, a base network for them, and drift at each of the three levels.

The digits ship with scikit-learn (1,797 pictures of 8x8 px from the UCI optical recognition test set).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from tbft.blocks import Blocks, split
from tbft.data import Samples, make_samples, split_samples
from tbft.errors import needs
from tbft.models.digits import DigitsNet
from tbft.plan import find_recipe
from tbft.scenarios import apply_drift
from tbft.tuning.base_training import train_base
from tbft.tuning.loop import Run

#: The recipe of the base networks.
BASE = find_recipe("base-short").replace(
    name="demo-base", batch_size=64, epochs=12, learning_rate=0.05, augment="none"
)

#: Digits that share a superclass: the base is trained on the first of each pair, the user writes the second.
SUPERCLASSES = ((0, 6), (1, 7), (4, 9), (3, 8), (2, 5))

#: What happened to the pictures of :func:`new_sensor`.
NEW_SENSOR = "a new sensor: a third of the contrast, brighter, and noise"


@dataclass(frozen=True, eq=False)
class Scenario:
    """A base model and the samples it meets."""

    level: str
    story: str
    blocks: Blocks
    target: Samples


def scenarios(seed: int = 0) -> list[Scenario]:
    """Train the base networks (a second or two each), and apply drifts to the other half of the digits."""
    half = split_samples(load_digits(), "rest", 0, 0.5, seed)
    base = trained(half.train, seed)
    firsts, seconds = ([pair[i] for pair in SUPERCLASSES] for i in (0, 1))
    return [
        Scenario(
            "input",
            NEW_SENSOR,
            base,
            replace(half.test, inputs=new_sensor(half.test.inputs, seed)),
        ),
        Scenario(
            "feature",
            "other digits of the same superclass: " + ", ".join(f"{a} -> {b}" for a, b in SUPERCLASSES),
            trained(_as_superclasses(load_digits(), firsts), seed),
            _as_superclasses(load_digits(), seconds),
        ),
        Scenario(
            "output",
            "the labels are reversed: 0 means 9, 1 means 8, ...",
            base,
            apply_drift(half.test, "labels:reverse"),
        ),
    ]


def load_digits() -> Samples:
    """scikit-learn's handwritten digits, which ship with the package."""
    with needs("scikit-learn", "demo"):
        from sklearn import datasets
    digits = datasets.load_digits()
    # 17 gray levels, 0 to 16.
    return make_samples(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target, name="digits")


def new_sensor(pictures: np.ndarray, seed: int) -> np.ndarray:
    """The pictures as seen by another sensor: a third of the contrast, a gray offset, readout noise."""
    noise = np.random.default_rng(seed).standard_normal(pictures.shape)
    seen = 0.5 + 0.3 * pictures / 255 + 0.05 * noise
    return (np.clip(seen, 0, 1) * 255).astype(np.uint8)


def trained(samples: Samples, seed: int) -> Blocks:
    """A base network for these samples."""
    parts = split_samples(samples, "rest", 0.2, 0, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsNet(len(samples.class_names))
    train_base(model, BASE, parts.train, parts.val, Run(seed))
    return split(model)


def _as_superclasses(digits: Samples, members: list[int]) -> Samples:
    """The samples of these digits, labeled by their superclass."""
    label: Mapping[int, int] = {digit: i for i, digit in enumerate(members)}
    chosen = digits.subset(np.flatnonzero(np.isin(digits.labels, members)))
    return replace(
        chosen,
        labels=np.array([label[int(digit)] for digit in chosen.labels]),
        class_names=tuple(f"{a} or {b}" for a, b in SUPERCLASSES),
    )
