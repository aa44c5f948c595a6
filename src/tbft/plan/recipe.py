"""Recipes: how to train, independent of the arm and the number of samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tbft.blocks.precision import Computing
from tbft.errors import PlanError, unknown
from tbft.plan.statistics import FOLLOW, KEEP, Statistics


@dataclass(frozen=True)
class Optimization:
    """The optimizer and its schedule.

    Attributes:
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        learning_rate: learning rate of all arms except those inside the last block.
        rear_learning_rate: learning rate of arms inside the last block; None: the same.
        schedule: ``constant``; ``step:E:F``, which multiplies the rate by F every E epochs; or ``one-cycle``,
            which raises it over the first 30 % of the steps and lowers it to zero along a cosine.
    """

    optimizer: str
    learning_rate: float
    rear_learning_rate: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"

    def rate(self, rear: bool) -> float:
        """The learning rate of an arm; `rear` if it is inside the last block."""
        return self.rear_learning_rate if rear and self.rear_learning_rate is not None else self.learning_rate


@dataclass(frozen=True)
class Duration:
    """How long to train.

    Attributes:
        patience: number of epochs without a lower validation loss after which to stop; None: never stop
            early.
        validate: evaluate on held-out samples after every epoch and keep the best one; otherwise train to the
            end of the schedule, without held-out samples.
        length: share of the steps to take, above 0 and up to 1, with the whole schedule in it; the last epoch
            may then be partial.
    """

    batch_size: int
    epochs: int
    patience: int | None = None
    validate: bool = True
    length: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.length <= 1:
            raise PlanError(f"the length is a number above 0 and at most 1, not {self.length}")


@dataclass(frozen=True)
class Scaling:
    """How duration and learning rate depend on the number of samples and the position of the arm.

    Attributes:
        min_steps: minimum number of steps, reached with more epochs if samples are few; batches then have
            nearly equal sizes, about an eighth of the samples each. 0: epochs and batches do not scale.
        min_batch: smallest batch size if samples are few.
        middle_epochs: epochs for blocks between the first and the last, whose prefix is cached; 0: the same
            as others.
        rear_min_steps: minimum number of steps for arms inside the last block, whose steps cost little; 0:
            the same as others.
        full_rate_from: number of samples from which the full learning rate is used. With fewer, it falls with
            their number to the power of `rate_power`, except in the rear, where few samples were not observed
            to do harm. 0: always the full rate.
        feature_keeps_below: at the feature level with fewer samples than this, statistics stay the source's,
            and the learning rate falls in proportion to the number of samples, as few pictures describe
            themselves rather than their kind. On Tiny-17, AdaBN on 170 pictures lost two points, on 850 it
            gained.
    """

    min_steps: int = 0
    min_batch: int = 16
    middle_epochs: int = 0
    rear_min_steps: int = 0
    full_rate_from: int = 0
    rate_power: float = 1 / 3
    feature_keeps_below: int = 0


@dataclass(frozen=True)
class Joint:
    """How arms are trained that have the head and other layers: all of it, or blocks and the head.

    Attributes:
        solves_head: whether a linear head is first solved for in closed form (``ridge``), as gradients
            through a head that is wrong distort the features (Kumar et al. 2022).
        joint_learning_rate: learning rate of these arms; None: that of other arms. The following fields need
            it, too.
        joint_min_steps: as `min_steps`.
        front_rate_factor: factor on the learning rate of the first block; between that and the last block it
            rises as a power.
    """

    solves_head: bool = False
    joint_learning_rate: float | None = None
    joint_min_steps: int = 0
    front_rate_factor: float = 1.0


@dataclass(frozen=True)
class Tracking:
    """Which BatchNorm statistics follow the data.

    Attributes:
        track: BatchNorms that track during training: ``all``, ``tuned`` or ``none``.
        refresh: apply AdaBN to the prefix before training, and to the rest afterwards; `track` then applies
            to the tuned part and everything after it.
    """

    track: str = "all"
    refresh: bool = False


@dataclass(frozen=True)
class Computation:
    """How passes are computed.

    Attributes:
        cache: compute the frozen prefix only once.
        channels_last: use the memory layout with channels last, which is faster.
        precision: precision during tuning, see :func:`tbft.blocks.precision.autocast`.
        augment: ``none``, or ``crop-flip``: random crops of the picture, padded by an eighth, and mirroring.
    """

    cache: bool = False
    channels_last: bool = False
    precision: str = "float32"
    augment: str = "none"


@dataclass(frozen=True)
class Training:
    """The settled numbers of a training run, which the training loop reads.

    Attributes:
        optimization: the optimizer, with the learning rate of this arm.
        batch_size, patience, validate: see :class:`Duration`.
        epochs: number of epochs; the last one may be partial.
        max_steps: number of steps after which the schedule ends, within the last epoch; 0: at its end.
        even_batches: whether batches have nearly equal sizes, instead of full batches and a smaller last one.
        part_size: maximum size of the parts in which a batch is computed; their gradients are accumulated,
            and BatchNorm normalizes each part separately. 0: the whole batch at once.
        rear_rate_factor: factor on the learning rate for parameters of a joined arm in the last block.
        front_rate_factor: see :class:`Joint`.
        computing: precision, memory layout and device, settled when the model has been tried.
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
    max_steps: int = 0
    front_rate_factor: float = 1.0
    computing: Computing = field(default_factory=Computing)

    def steps_per_epoch(self, count: int) -> int:
        """Number of batches in an epoch over `count` samples."""
        return -(-count // self.batch_size)

    def steps(self, count: int) -> int:
        """Number of steps of the whole schedule."""
        steps = self.epochs * self.steps_per_epoch(count)
        return min(steps, self.max_steps) if self.max_steps else steps


@dataclass(frozen=True)
class Recipe:
    """How to train, independent of the arm.

    Attributes:
        head_alone: the arm for the output level is the head (the last layer) instead of the rear block.
        strength: how far to go from the base's weights (0) to the tuned ones (1). Weights in between are
            often more robust if labels are few (Wortsman et al. 2022, WiSE-FT).
        source: where the recipe comes from.
    """

    name: str
    optimization: Optimization
    duration: Duration
    scaling: Scaling = Scaling()
    joint: Joint = Joint()
    tracking: Tracking = Tracking()
    computation: Computation = Computation()
    head_alone: bool = False
    strength: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise PlanError(f"the strength is a number above 0 and at most 1, not {self.strength}")

    def training(self, count: int, middle: bool = False, rear: bool = False, joint: bool = False) -> Training:
        """The settled numbers for `count` samples.

        Args:
            middle: whether the arm is a block between the first and the last.
            rear: whether the arm is inside the last block.
            joint: whether it is the head and other layers.
        """
        if joint and self.joint.joint_learning_rate is not None:
            return self._joint_training(count)
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
        max_steps = 0
        if d.length < 1 and count:
            per_epoch = -(-count // batch_size)
            max_steps = max(1, round(d.length * epochs * per_epoch))
            epochs = -(-max_steps // per_epoch)
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
            max_steps=max_steps,
        )

    def _joint_training(self, count: int) -> Training:
        steps = self.joint.joint_min_steps or self.scaling.min_steps
        alike = self.replace(
            learning_rate=self.joint.joint_learning_rate, rear_learning_rate=None, min_steps=steps
        )
        return replace(alike.training(count), front_rate_factor=self.joint.front_rate_factor)

    def replace(self, **numbers: Any) -> Recipe:
        """The recipe with some numbers replaced, named as the fields of the recipe or of its parts.

        >>> recipe = Recipe("mine", Optimization("sgd", 0.1), Duration(batch_size=32, epochs=10))
        >>> recipe.replace(epochs=3, optimizer="adam").duration.epochs
        3
        """
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in numbers.items():
            if name not in parts:
                owner = _OWNERS.get(name)
                if owner is None:
                    raise PlanError(unknown("field of a recipe", name, _OWNERS))
                name, value = owner, replace(parts[owner], **{name: value})
            parts[name] = value
        return Recipe(**parts)

    def given(
        self, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
    ) -> Recipe:
        """The recipe with these numbers for any arm and number of samples; None: unchanged."""
        changes: dict[str, Any] = {}
        if epochs is not None:
            min_steps = min(self.scaling.min_steps, 1)
            changes |= {"epochs": epochs, "middle_epochs": 0, "min_steps": min_steps, "rear_min_steps": 0}
            changes |= {"joint_min_steps": 0}
        if batch_size is not None:
            changes |= {"batch_size": batch_size, "min_batch": batch_size}
        if learning_rate is not None:
            changes |= {"learning_rate": learning_rate, "rear_learning_rate": None, "full_rate_from": 0}
            changes |= {"joint_learning_rate": learning_rate}
        return self.replace(**changes)

    def default_statistics(self, level: str | None = None) -> Statistics:
        """The policy for statistics if none is given.

        Recipes that refresh let statistics follow the target, depending on the number of samples. At the
        output level the inputs are unchanged, so the statistics are kept.
        """
        if not self.tracking.refresh:
            return Statistics.of(0.0)
        return KEEP if level == "output" else FOLLOW

    def to_json(self) -> dict[str, Any]:
        """All numbers by name, without nesting."""
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            flat |= value if isinstance(value, dict) else {key: value}
        return flat


_PARTS = {"optimization": Optimization, "duration": Duration, "scaling": Scaling, "joint": Joint,
          "tracking": Tracking, "computation": Computation}  # fmt: skip
_OWNERS = {field.name: part for part, kind in _PARTS.items() for field in fields(kind)}
