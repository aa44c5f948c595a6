"""The demo: real handwritten digits, a small network, and drift at each of the three levels.

The digits ship with scikit-learn (1,797 pictures of 8x8 px from the UCI optical recognition test set). All
figures are measured in the run that shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np
import torch

from tbft.blocks import Blocks, split
from tbft.data import Samples, make_samples, split_samples
from tbft.errors import needs
from tbft.models.digits import DigitsNet
from tbft.pipeline import personalize
from tbft.plan import Plan, find_recipe, plan_level
from tbft.scenarios import apply_drift
from tbft.tuning.base_training import train_base
from tbft.tuning.loop import Run

#: The recipe for the base networks, and the paper's recipe with batch size and learning rate for 100 samples.
BASE = find_recipe("base-short").replace(
    name="demo-base", batch_size=64, epochs=12, learning_rate=0.05, augment="none"
)
TUNE = find_recipe("paper").replace(
    name="demo", batch_size=16, epochs=30, learning_rate=1e-2, rear_learning_rate=None
)

#: Digits that share a superclass: the base is trained on the first of each pair, the user writes the second.
SUPERCLASSES = ((0, 6), (1, 7), (4, 9), (3, 8), (2, 5))


@dataclass(frozen=True, eq=False)
class Scenario:
    """A base model and the samples it meets."""

    level: str
    story: str
    blocks: Blocks
    target: Samples


@dataclass(frozen=True)
class Row:
    """One arm on one scenario, summarized over the repeats.

    Attributes:
        accuracy: mean accuracy, 0 to 1.
        cpu_seconds: median processor time of tuning, with its validation.
    """

    arm: str
    accuracy: float
    cpu_seconds: float
    patch_bytes: int


@dataclass(frozen=True)
class Outcome:
    """All arms on one scenario."""

    level: str
    story: str
    matching: str  # the arm that the level names
    train_samples: int
    test_samples: int
    rows: tuple[Row, ...]

    def row(self, arm: str) -> Row:
        """The row of an arm."""
        return next(r for r in self.rows if r.arm == arm)


def scenarios(seed: int = 0) -> list[Scenario]:
    """Train the base networks (a second or two each), and apply drifts to the other half of the digits."""
    digits = load_digits()
    half = split_samples(digits, "rest", 0, 0.5, seed)
    base = _trained(half.train, seed)
    firsts, seconds = ([pair[i] for pair in SUPERCLASSES] for i in (0, 1))
    return [
        Scenario(
            "input",
            "a new sensor: polarity reversed, a third of the gain, noise",
            base,
            replace(half.test, inputs=new_sensor(half.test.inputs, seed)),
        ),
        Scenario(
            "feature",
            "other digits of the same superclass: " + ", ".join(f"{a} -> {b}" for a, b in SUPERCLASSES),
            _trained(_as_superclasses(digits, firsts), seed),
            _as_superclasses(digits, seconds),
        ),
        Scenario(
            "output",
            "the labels are reversed: 0 means 9, 1 means 8, ...",
            base,
            apply_drift(half.test, "labels:reverse"),
        ),
    ]


def run(seed: int = 0, repeats: int = 3, on_arm: Callable[[str, str], None] | None = None) -> list[Outcome]:
    """Adapt every scenario with every arm, each on `repeats` random splits.

    Args:
        on_arm: called with level and arm before each adaptation.
    """
    return [_outcome(scenario, seed, repeats, on_arm) for scenario in scenarios(seed)]


def arms(blocks: Blocks) -> list[str]:
    """The arms that the demo tries."""
    return ["none", "adabn", *blocks.names, "full"]


def conclusion(outcome: Outcome) -> str:
    """The conclusion from one scenario's figures, in words.

    >>> rows = [Row("none", 0.1, 0, 0), Row("front", 0.9, 1, 10), Row("rear", 0.6, 1, 5)]
    >>> rows += [Row("full", 0.8, 2, 40)]
    >>> print(conclusion(Outcome("input", "", "front", 100, 400, tuple(rows))))
    The matching block, front, gains 80.0 points: 30.0 more than the best other block, 10.0 more than full.
    It takes 50 % of the processor time of full and 25 % of its patch size.
    """
    matching, full, none = outcome.row(outcome.matching), outcome.row("full"), outcome.row("none")
    others = [r for r in outcome.rows if r.arm not in ("none", "adabn", "full", matching.arm)]
    over_blocks = 100 * (matching.accuracy - max(r.accuracy for r in others))
    over_full = 100 * (matching.accuracy - full.accuracy)
    return (
        f"The matching block, {matching.arm}, gains {100 * (matching.accuracy - none.accuracy):.1f} points: "
        f"{_more(over_blocks)} than the best other block, {_more(over_full)} than full.\n"
        f"It takes {100 * matching.cpu_seconds / full.cpu_seconds:.0f} % of the processor time of full and "
        f"{100 * matching.patch_bytes / full.patch_bytes:.0f} % of its patch size."
    )


def new_sensor(pictures: np.ndarray, seed: int) -> np.ndarray:
    """The pictures as seen by another sensor: inverted, a third of the gain, a gray offset, readout noise."""
    noise = np.random.default_rng(seed).standard_normal(pictures.shape)
    seen = 0.5 + 0.3 * (1 - pictures / 255) + 0.03 * noise
    return (np.clip(seen, 0, 1) * 255).astype(np.uint8)


def load_digits() -> Samples:
    """scikit-learn's handwritten digits, which ship with the package."""
    with needs("scikit-learn", "demo"):
        from sklearn import datasets
    digits = datasets.load_digits()
    # 17 gray levels, 0 to 16.
    return make_samples(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target, name="digits")


def _trained(samples: Samples, seed: int) -> Blocks:
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


def _outcome(
    scenario: Scenario, seed: int, repeats: int, on_arm: Callable[[str, str], None] | None
) -> Outcome:
    blocks = scenario.blocks
    splits = [split_samples(scenario.target, "10/class", 0.15, 0.5, seed + i) for i in range(repeats)]
    rows = []
    for arm in arms(blocks):
        results = []
        for i, parts in enumerate(splits):
            if on_arm is not None:
                on_arm(scenario.level, arm)
            plan = Plan(arm, TUNE, seed=seed + i)
            results.append(personalize(blocks, parts, plan=plan))
        rows.append(
            Row(
                arm,
                fmean(r.after.score for r in results if r.after is not None),
                median(r.measurement.cpu_seconds for r in results),
                len(results[0].patch.to_bytes()),
            )
        )
    matching = plan_level(scenario.level, blocks.names, blocks.head, TUNE.replace(head_alone=False)).arm.name
    sizes = len(splits[0].train), len(splits[0].test)
    return Outcome(scenario.level, scenario.story, matching, *sizes, tuple(rows))


def _more(points: float) -> str:
    return f"{points:.1f} more" if points >= 0 else f"{-points:.1f} less"
