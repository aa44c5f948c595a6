"""Recipes: how an arm is trained, before it is known which arm, and on how many samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tbft.blocks.precision import Computing
from tbft.errors import PlanError, unknown
from tbft.plan.statistics import FOLLOW, KEEP, Statistics


@dataclass(frozen=True)
class Optimization:
    """How a step is taken.

    Attributes:
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        learning_rate: of every arm but those inside the last block.
        rear_learning_rate: of arms inside the last block; None: the same.
        schedule: ``constant``; ``step:E:F``, the rate times F every E epochs; ``one-cycle``, up over
            the first 30 % of the steps and down to zero by a cosine.
    """

    optimizer: str
    learning_rate: float
    rear_learning_rate: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"

    def rate(self, rear: bool) -> float:
        """Learning rate of an arm; `rear` if it lies in the last block."""
        return self.rear_learning_rate if rear and self.rear_learning_rate is not None else self.learning_rate


@dataclass(frozen=True)
class Duration:
    """How long training goes on.

    Attributes:
        patience: stop after so many epochs without a lower validation loss; None: never.
        validate: measure loss and accuracy on held-out samples after every epoch, and keep the best
            epoch; otherwise the schedule runs to its end and needs none.
    """

    batch_size: int
    epochs: int
    patience: int | None = None
    validate: bool = True


@dataclass(frozen=True)
class Scaling:
    """How duration and rate follow the number of samples and the place of the arm.

    Attributes:
        min_steps: at least so many steps, in more epochs where samples are few; batches are then as even
            as can be, an eighth of the samples each. 0: epochs and batches as they are.
        min_batch: what batches do not fall below where samples are few.
        middle_epochs: epochs of blocks between the first and the last, whose prefix is cached; 0: as others.
        rear_min_steps: of arms inside the last block, whose steps cost little; 0: as others.
        full_rate_from: samples from which on the learning rate holds; below, it falls with their number to
            the power `rate_power`, except in the rear, whose few weights no number of samples was seen to
            spoil. 0: it always holds.
        feature_keeps_below: on the feature level, with fewer samples than this, the statistics stay the
            source's and the rate falls in proportion to their number: few pictures of other kinds say more of
            themselves than of their kinds. AdaBN by 170 of them lost two points on Tiny-17, by 850 gained.
    """

    min_steps: int = 0
    min_batch: int = 16
    middle_epochs: int = 0
    rear_min_steps: int = 0
    full_rate_from: int = 0
    rate_power: float = 1 / 3
    feature_keeps_below: int = 0


@dataclass(frozen=True)
class Tracking:
    """Which BatchNorm statistics follow the data.

    Attributes:
        track: while training: ``all``, ``tuned`` or ``none``.
        refresh: AdaBN before training on what lies before the tuned part, and after it on the rest;
            `track` then holds for the tuned part and what comes after it.
    """

    track: str = "all"
    refresh: bool = False


@dataclass(frozen=True)
class Computation:
    """How passes are computed.

    Attributes:
        cache: compute the frozen prefix once.
        channels_last: hand pictures over with their channels together in memory, which is faster.
        precision: while tuning, see :func:`tbft.blocks.precision.autocast`.
        augment: ``none``, or ``crop-flip``: random crops of the picture padded by an eighth, and mirroring.
    """

    cache: bool = False
    channels_last: bool = False
    precision: str = "float32"
    augment: str = "none"


@dataclass(frozen=True)
class Training:
    """A training run with every number settled: what the training loop reads.

    Attributes:
        optimization: its `learning_rate` is that of this arm.
        batch_size, epochs, patience, validate: see :class:`Duration`.
        even_batches: batches as even as they can be, rather than full ones and a rest.
        part_size: a batch is computed in parts of at most so many samples, whose gradients add up to the
            batch's; BatchNorm sees each part by itself. 0: whole.
        rear_rate_factor: of a joined arm's parameters in the last block.
        computing: precision, memory layout and device, once the model has been tried.
    """

    optimization: Optimization
    computation: Computation
    batch_size: int
    epochs: int
    patience: int | None = None
    validate: bool = False
    even_batches: bool = False
    part_size: int = 0
    rear_rate_factor: float = 1.0
    computing: Computing = field(default_factory=Computing)

    def steps_per_epoch(self, count: int) -> int:
        """Batches in one pass over so many samples."""
        return -(-count // self.batch_size)


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the arm.

    Attributes:
        head_alone: the arm of the output level is the head, the last layer, rather than the rear block.
        source: where the recipe comes from.
    """

    name: str
    optimization: Optimization
    duration: Duration
    scaling: Scaling = Scaling()
    tracking: Tracking = Tracking()
    computation: Computation = Computation()
    head_alone: bool = False
    source: str = ""

    def training(self, count: int, middle: bool = False, rear: bool = False) -> Training:
        """The numbers that so many samples call for.

        Args:
            middle: the arm is a block between the first and the last.
            rear: the arm lies in the last block.
        """
        s, d, o = self.scaling, self.duration, self.optimization
        batch_size, epochs, factor = d.batch_size, d.epochs, 1.0
        scaled = bool(s.min_steps and count)
        if scaled:
            batch_size = min(count, max(s.min_batch, min(batch_size, count // 8)))
            steps = s.rear_min_steps or s.min_steps if rear else s.min_steps
            epochs = max(
                s.middle_epochs or epochs if middle else epochs, -(-steps // -(-count // batch_size))
            )
            if s.full_rate_from:
                factor = min(1.0, (count / s.full_rate_from) ** s.rate_power)
        front_rate = o.learning_rate * factor
        rear_rate = front_rate if o.rear_learning_rate is None else o.rear_learning_rate
        return Training(
            replace(o, learning_rate=rear_rate if rear else front_rate, rear_learning_rate=None),
            self.computation,
            batch_size,
            epochs,
            d.patience,
            d.validate,
            even_batches=scaled,
            rear_rate_factor=1.0 if rear or not front_rate else rear_rate / front_rate,
        )

    def replace(self, **numbers: Any) -> Recipe:
        """The same with other numbers, named as the fields of the recipe or of its parts.

        >>> find_recipe("paper").replace(epochs=3, optimizer="adam").duration.epochs
        3
        """
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in numbers.items():
            if name not in parts:
                owner = _OWNERS.get(name)
                if owner is None:
                    raise PlanError(unknown("number of a recipe", name, _OWNERS))
                name, value = owner, replace(parts[owner], **{name: value})
            parts[name] = value
        return Recipe(**parts)

    def given(
        self, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
    ) -> Recipe:
        """The same with these numbers, whatever the arm and the number of samples; None: as they are."""
        changes: dict[str, Any] = {}
        if epochs is not None:
            least = min(self.scaling.min_steps, 1)
            changes |= {"epochs": epochs, "middle_epochs": 0, "min_steps": least, "rear_min_steps": 0}
        if batch_size is not None:
            changes |= {"batch_size": batch_size, "min_batch": batch_size}
        if learning_rate is not None:
            changes |= {"learning_rate": learning_rate, "rear_learning_rate": None, "full_rate_from": 0}
        return self.replace(**changes)

    def default_statistics(self, level: str | None = None) -> Statistics:
        """What becomes of the statistics where nobody says.

        Recipes that refresh let them follow the target, by the number of samples; but on the output level
        the inputs are as they were, and the statistics stay.
        """
        if not self.tracking.refresh:
            return Statistics.of(0.0)
        return KEEP if level == "output" else FOLLOW

    def to_json(self) -> dict[str, Any]:
        """Every number by its name, without nesting."""
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            flat |= value if isinstance(value, dict) else {key: value}
        return flat


_PARTS = {"optimization": Optimization, "duration": Duration, "scaling": Scaling, "tracking": Tracking,
          "computation": Computation}  # fmt: skip
_OWNERS = {field.name: part for part, kind in _PARTS.items() for field in fields(kind)}

_PAPER = Recipe(
    name="paper",
    optimization=Optimization("sgd", 1e-3, 1e-2, momentum=0.9, weight_decay=5e-4),
    duration=Duration(batch_size=128, epochs=10, patience=5),
    head_alone=True,
    source="Huang et al. 2024, CIFAR-10-C and CIFAR-Flip scripts",
)
_FAST = Recipe(
    name="fast",
    optimization=Optimization("adamw", 3e-3, 3e-2, weight_decay=0.05, schedule="one-cycle"),
    duration=Duration(batch_size=48, epochs=4, validate=False),
    scaling=Scaling(
        min_steps=40, middle_epochs=6, rear_min_steps=100, full_rate_from=1000, feature_keeps_below=400
    ),
    tracking=Tracking(refresh=True),
    computation=Computation(cache=True, channels_last=True, precision="auto"),
    head_alone=True,
    source="ours",
)
_BASE_PAPER = Recipe(
    name="base-paper",
    optimization=Optimization("sgd", 0.01, momentum=0.9, weight_decay=5e-4, schedule="step:50:0.5"),
    duration=Duration(batch_size=128, epochs=300, patience=60),
    computation=Computation(augment="crop-flip"),
    source="Huang et al. 2024, train_origin_resnet.py",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _PAPER,
        _PAPER.replace(name="paper-living17", optimizer="adam", momentum=0.0, weight_decay=0.0, patience=None,
                       source="Huang et al. 2024, Living-17 script"),
        _FAST,
        _BASE_PAPER,
        _BASE_PAPER.replace(name="base-paper-living17", optimizer="adam", learning_rate=2e-3, momentum=0.0,
                            weight_decay=5e-3, batch_size=224, epochs=75, patience=None,
                            schedule="step:25:0.5", augment="none",
                            source="Huang et al. 2024, Living17_ResNet26_origin.py"),
        _BASE_PAPER.replace(name="base-short", learning_rate=0.1, nesterov=True, epochs=30, patience=None,
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
