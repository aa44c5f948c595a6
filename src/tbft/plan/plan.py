"""Plans and recipes: what is decided before a step is taken. No tensors here.

The levels of drift and the block that mends each are those of Huang et al. (EuroMLSys 2024), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tbft.errors import PlanError, unknown

#: Samples that the source statistics count for; Schneider et al. (2020) find 8 to 32 best.
PSEUDO_SAMPLES = 16

LEVELS = ("none", "input", "feature", "output")


@dataclass(frozen=True)
class Recipe:
    """How to train: optimizer, rates, length, and which BatchNorm statistics track.

    Attributes:
        optimizer: ``sgd`` or ``adam``.
        learning_rate: of every arm but the rear block.
        rear_learning_rate: of arms inside the last block; None: the same.
        schedule: ``constant``; ``step:E:F``, the rate times F every E epochs; ``one-cycle``, up over
            the first 30 % of the steps and down to zero by a cosine.
        patience: stop after so many epochs without a lower validation loss; None: never.
        track: whose BatchNorm statistics follow the data: ``all``, ``tuned`` or ``none``.
        refresh: AdaBN before training on what lies before the tuned part, and after it on the rest;
            ``track`` then holds for the tuned part and what comes after it.
        cache: compute the frozen prefix once.
        validate: measure loss and accuracy on held-out samples after every epoch, and keep the best
            epoch; otherwise the schedule runs to its end and needs none.
        channels_last: hand pictures over with their channels together in memory, which is faster.
        precision: of the computing while tuning, see :func:`tbft.blocks.precision.autocast`.
        middle_epochs: epochs of blocks between the first and the last, whose prefix is cached; 0: `epochs`.
        rear_least_steps: the same for arms inside the last block, whose steps cost little; 0: as others.
        full_rate_from: samples from which on `learning_rate` holds, see :meth:`for_samples`.
        rate_power: how fast the rate falls with the number of samples below that.
        feature_keeps_below: on the feature level, with fewer samples than this, the statistics stay the
            source's and the rate falls in proportion to their number; see :meth:`Plan.for_samples`.
        least_steps: at least so many steps, in more epochs than `epochs` where samples are few; batches
            are then as even as can be. 0: epochs and batches as they are.
        least_batch: what batches do not fall below where samples are few.
        part_size: a batch is computed in parts of at most so many samples, whose gradients add up to the
            batch's; BatchNorm sees each part by itself. 0: whole.
        head_alone: the arm of the output level is the head, the last layer, rather than the rear block.
        augment: ``none``, or ``crop-flip``: random crops of the picture padded by an eighth, and mirroring.
        source: where the recipe comes from.
    """

    name: str
    optimizer: str
    learning_rate: float
    rear_learning_rate: float | None
    momentum: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int | None
    schedule: str = "constant"
    nesterov: bool = False
    track: str = "all"
    head_alone: bool = False
    least_batch: int = 16
    part_size: int = 0
    augment: str = "none"
    refresh: bool = False
    cache: bool = False
    validate: bool = True
    channels_last: bool = False
    precision: str = "float32"
    least_steps: int = 0
    middle_epochs: int = 0
    rear_least_steps: int = 0
    full_rate_from: int = 0
    rate_power: float = 1 / 3
    feature_keeps_below: int = 0
    source: str = ""

    def for_samples(self, count: int, middle: bool = False, rear: bool = False) -> Recipe:
        """The same with the epochs, the batch and the rate that so many samples call for.

        Only recipes with `least_steps` do so. A batch is an eighth of the samples, from `least_batch` up
        to `batch_size`. Below `full_rate_from` samples the rate falls with their number to `rate_power`,
        except in the rear, whose few weights no number of samples was seen to spoil.

        Args:
            middle: the arm is a block between the first and the last.
            rear: the arm lies in the last block.
        """
        if not self.least_steps or not count:
            return self
        batch_size = min(count, max(self.least_batch, min(self.batch_size, count // 8)))
        steps = self.rear_least_steps or self.least_steps if rear else self.least_steps
        epochs = self.middle_epochs or self.epochs if middle else self.epochs
        epochs = max(epochs, -(-steps // -(-count // batch_size)))
        factor = min(1.0, (count / self.full_rate_from) ** self.rate_power) if self.full_rate_from else 1.0
        rate = self.learning_rate * factor
        return replace(self, batch_size=batch_size, epochs=epochs, learning_rate=rate)

    def given(
        self, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
    ) -> Recipe:
        """The same with these numbers, whatever the arm and the number of samples; None: as they are."""
        changes: dict[str, Any] = {}
        if epochs is not None:
            least = min(self.least_steps, 1)
            changes |= {"epochs": epochs, "middle_epochs": 0, "least_steps": least, "rear_least_steps": 0}
        if batch_size is not None:
            changes |= {"batch_size": batch_size, "least_batch": batch_size}
        if learning_rate is not None:
            changes |= {"learning_rate": learning_rate, "rear_learning_rate": None, "full_rate_from": 0}
        return replace(self, **changes)

    def steps_per_epoch(self, count: int) -> int:
        """Batches in one pass over so many samples."""
        return -(-count // self.batch_size)

    def default_share(self, level: str | None = None) -> float | None:
        """Weight of the source statistics, see :attr:`Plan.source_share`, where nobody names one.

        Recipes that refresh let statistics follow the target, by the number of samples; but on the
        output level the inputs are as they were, and the statistics stay.
        """
        return 0.0 if not self.refresh else 1.0 if level == "output" else None

    def rate(self, rear: bool) -> float:
        """Learning rate of an arm; `rear` if it lies in the last block."""
        return self.rear_learning_rate if rear and self.rear_learning_rate is not None else self.learning_rate


_PAPER = Recipe(
    name="paper",
    optimizer="sgd",
    learning_rate=1e-3,
    rear_learning_rate=1e-2,
    momentum=0.9,
    weight_decay=5e-4,
    batch_size=128,
    epochs=10,
    patience=5,
    head_alone=True,
    source="Huang et al. 2024, CIFAR-10-C and CIFAR-Flip scripts",
)
_FAST = Recipe(
    name="fast",
    optimizer="adamw",
    learning_rate=3e-3,
    rear_learning_rate=3e-2,
    momentum=0.0,
    weight_decay=0.05,
    batch_size=48,
    epochs=4,
    patience=None,
    schedule="one-cycle",
    refresh=True,
    cache=True,
    validate=False,
    channels_last=True,
    precision="auto",
    least_steps=40,
    middle_epochs=6,
    rear_least_steps=100,
    full_rate_from=1000,
    feature_keeps_below=400,
    head_alone=True,
    source="ours",
)
_BASE_PAPER = Recipe(
    name="base-paper",
    optimizer="sgd",
    learning_rate=0.01,
    rear_learning_rate=None,
    momentum=0.9,
    weight_decay=5e-4,
    batch_size=128,
    epochs=300,
    patience=60,
    schedule="step:50:0.5",
    augment="crop-flip",
    source="Huang et al. 2024, train_origin_resnet.py",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _PAPER,
        replace(_PAPER, name="paper-living17", optimizer="adam", momentum=0.0, weight_decay=0.0,
                patience=None, source="Huang et al. 2024, Living-17 script"),
        _FAST,
        _BASE_PAPER,
        replace(_BASE_PAPER, name="base-paper-living17", optimizer="adam", learning_rate=2e-3, momentum=0.0,
                weight_decay=5e-3, batch_size=224, epochs=75, patience=None, schedule="step:25:0.5",
                augment="none", source="Huang et al. 2024, Living17_ResNet26_origin.py"),
        replace(_BASE_PAPER, name="base-short", learning_rate=0.1, nesterov=True, epochs=30, patience=None,
                schedule="one-cycle", channels_last=True, precision="auto",
                source="one-cycle schedule of Smith & Topin 2019"),
    )
}  # fmt: skip


def find_recipe(name: str, own: dict[str, str] | None = None) -> Recipe:
    """The recipe with this name; `own` maps names to a model's own variants (see ``Preset.recipes``)."""
    name = (own or {}).get(name, name)
    if name not in RECIPES:
        raise PlanError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


@dataclass(frozen=True)
class Budget:
    """What an adaptation may take at most; None: no limit.

    Attributes:
        peak_bytes: of tensors and prefix cache together, beyond model and samples.
        cpu_seconds: of processor time, everything included.
        joules: of energy.
    """

    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    joules: float | None = None

    def __post_init__(self) -> None:
        for amount, unit in ((self.peak_bytes, "bytes"), (self.cpu_seconds, "s"), (self.joules, "J")):
            if amount is not None and not 0 < amount < float("inf"):
                raise PlanError(f"a budget of {amount} {unit} leaves nothing to tune with")


@dataclass(frozen=True)
class Plan:
    """What will be done, decided before a step is taken.

    Attributes:
        arm: ``none``, ``adabn``, ``full``, the name of a block, or of a submodule inside one.
        recipe: how an arm with parameters is trained; ``adabn`` uses its batch size alone.
        level: the level of drift it is meant for; None if the arm was chosen directly.
        source_share: weight of the source statistics in AdaBN, 0 to 1 (Schneider et al. 2020); 1 leaves
            the statistics alone; None: by the number of samples, see :meth:`share`; ``auto``: what
            gives the training samples the lowest loss with forward passes alone, before training.
        seed: of everything random while tuning.
        budget: what it may take at most.
    """

    arm: str
    recipe: Recipe
    level: str | None = None
    source_share: float | Literal["auto"] | None = 0.0
    seed: int = 0
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        share = self.source_share
        if not (share is None or share == "auto" or (isinstance(share, (int, float)) and 0 <= share <= 1)):
            raise PlanError(f"the source share is a fraction from 0 to 1, or auto, not {share}")

    @property
    def adapts(self) -> bool:
        """Whether statistics are to follow the target at all."""
        return self.source_share != 1.0

    def for_samples(self, count: int) -> Plan:
        """The same as so many samples call for, where statistics go by their number.

        Few pictures of other kinds say more of themselves than of their kinds: AdaBN by 170 of them lost
        two points on Tiny-17, and by 850 gained.
        """
        few = self.level == "feature" and count < self.recipe.feature_keeps_below
        if self.source_share is not None or not few:
            return self
        return replace(self, source_share=1.0, recipe=replace(self.recipe, rate_power=1.0))

    def share(self, count: int) -> float:
        """Weight of the source statistics where so many samples give the target's.

        The source counts as :data:`PSEUDO_SAMPLES` samples (Schneider et al. 2020, equation 3).
        """
        if isinstance(self.source_share, (int, float)):
            return self.source_share
        return PSEUDO_SAMPLES / (PSEUDO_SAMPLES + count)


def arm_for_level(level: str, block_names: Sequence[str], head: str | None = None) -> str:
    """The arm that mends a level of drift: front block, the last block before the rear, or rear block.

    For the feature level the paper finds block 3 of 4 best; with two blocks it is the rear one.

    Args:
        head: take this submodule in place of the rear block, as the paper does with ``fc``.

    >>> [arm_for_level(level, ["front", "layer2", "layer3", "rear"]) for level in LEVELS]
    ['none', 'front', 'layer3', 'rear']
    """
    if level not in LEVELS:
        raise PlanError(unknown("level", level, LEVELS))
    if level == "none":
        return "none"
    if len(block_names) < 2:
        raise PlanError("a model of one block has no front, middle and rear: cut it, or choose an arm")
    late = block_names[-2] if len(block_names) > 2 else block_names[-1]
    return {"input": block_names[0], "feature": late, "output": head or block_names[-1]}[level]
