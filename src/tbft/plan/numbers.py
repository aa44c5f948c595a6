"""The numbers of a recipe, by what they are about, and those of a settled training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tbft.blocks.precision import Computing
from tbft.errors import PlanError


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
class Front:
    """How the first block of a network for pictures is trained, as each of its steps runs the whole network.

    Attributes:
        front_length: share of the epochs that other arms would take, from `front_from` samples on.
        front_batch_size, front_learning_rate: instead of those of other arms; None: the same.
        later_norms: also train scales and shifts of the later BatchNorms if their statistics adapt; their
            gradients come with those of the front, at no cost.
    """

    front_length: float = 1.0
    front_from: int = 0
    front_batch_size: int | None = None
    front_learning_rate: float | None = None
    later_norms: bool = False


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
        later_norms: whether scales and shifts of later BatchNorms are trained, see :class:`Front`.
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
    later_norms: bool = False
    front_rate_factor: float = 1.0
    computing: Computing = field(default_factory=Computing)

    def steps_per_epoch(self, count: int) -> int:
        """Number of batches in an epoch over `count` samples."""
        return -(-count // self.batch_size)

    def steps(self, count: int) -> int:
        """Number of steps of the whole schedule."""
        steps = self.epochs * self.steps_per_epoch(count)
        return min(steps, self.max_steps) if self.max_steps else steps
