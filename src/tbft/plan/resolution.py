"""Resolve a plan: settle all its numbers for a model and a number of samples, once.

A resolved plan lists the passes in the order of execution. Tuning executes this list and the cost model
counts it, so neither makes decisions of its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from tbft.blocks import Arm, Blocks, cut_before
from tbft.blocks.solvable import linear_head
from tbft.blocks.state import batch_norms
from tbft.plan.numbers import Training
from tbft.plan.plan import Plan, replace_plan
from tbft.plan.statistics import KEEP, Statistics

#: Maximum number of samples for AdaBN in a plan that refreshes; more would cost time and change little.
STATISTICS_SAMPLES = 256
#: Batch size for a frozen prefix.
PREFIX_BATCH = 32
#: Batch size of the forward pass that a head in closed form needs.
SOLVED_BATCH = 64


@dataclass(frozen=True)
class ChooseShare:
    """Try shares of the source statistics on labeled samples, with forward passes only."""

    samples: int
    batch_size: int


@dataclass(frozen=True)
class AdaptStatistics:
    """AdaBN of the stages from `first` to before `end`.

    Attributes:
        samples: number of samples to read; drawn at random with the plan's seed if there are more.
        source_share: weight of the source statistics.
    """

    first: int
    end: int
    samples: int
    batch_size: int
    source_share: float


@dataclass(frozen=True)
class CachePrefix:
    """Run the stages before `end` once; the following passes read their outputs."""

    end: int
    samples: int
    val_samples: int
    batch_size: int


@dataclass(frozen=True)
class Train:
    """Train the stages from `first` on, and validate if the recipe says so."""

    first: int
    samples: int
    val_samples: int


@dataclass(frozen=True)
class SolveHead:
    """Compute the head in closed form from the features of all samples.

    Attributes:
        name: ``ridge`` or ``prototypes``.
        first: the stage whose inputs are at hand.
    """

    name: str
    first: int
    samples: int
    batch_size: int


Pass = ChooseShare | AdaptStatistics | CachePrefix | Train | SolveHead


@dataclass(frozen=True, eq=False)
class ResolvedPlan:
    """A plan with all numbers settled for a model and a number of samples.

    Attributes:
        plan: the plan, with the recipe that fits the samples.
        blocks: the model as it was split.
        stages: the same model, with an additional cut before the arm if only one tensor crosses it.
        start: the first stage that is trained; 0 if none is.
        statistics: how BatchNorm statistics are treated.
        training: the numbers of the training; None if nothing is trained.
        passes: the passes to run, in order.
    """

    plan: Plan
    blocks: Blocks
    stages: Blocks
    start: int
    statistics: Statistics
    training: Training | None
    passes: tuple[Pass, ...]

    @property
    def track(self) -> str:
        """The BatchNorms that track during training, see :class:`tbft.plan.recipe.Tracking`."""
        return self.plan.recipe.tracking.track if self.statistics.adapts else "none"

    @property
    def along(self) -> list[nn.Parameter]:
        """Parameters outside the arm that are trained, too: scales and shifts of later BatchNorms."""
        if self.training is None or not self.training.later_norms or not self.statistics.adapts:
            return []
        own = {id(p) for p in self.blocks.trainable(self.plan.arm)}
        found = [p for norm in batch_norms(self.stages.onward(self.start)) for p in norm.parameters()]
        return [p for p in dict.fromkeys(found) if p.requires_grad and id(p) not in own]

    def only(self) -> AbstractContextManager[list[nn.Parameter]]:
        """Make what the plan trains trainable, and let its BatchNorms track."""
        return self.blocks.only(self.plan.arm, self.track, self.along)

    @property
    def steps(self) -> int:
        """Total number of optimizer steps."""
        return sum(
            self.training.steps(step.samples)
            for step in self.passes
            if isinstance(step, Train) and self.training is not None
        )


def resolve(plan: Plan, blocks: Blocks, count: int, val_count: int = 0) -> ResolvedPlan:
    """Settle a plan for `count` training samples and `val_count` held-out ones that choose the epoch.

    Raises:
        SplitError: the model does not have the arm.
    """
    if plan.arm != (arm := blocks.named(plan.arm)):
        plan = replace_plan(plan, arm=arm)
    block = blocks.block_of(plan.arm)
    if plan.arm.name == "none" or not count:
        return ResolvedPlan(plan, blocks, blocks, 0, plan.statistics, None, ())
    statistics, recipe = plan.statistics, plan.recipe
    few = plan.level == "feature" and count < recipe.scaling.feature_keeps_below
    if few and statistics.mode == "follow" and statistics.source_share is None:
        statistics, recipe = KEEP, recipe.replace(rate_power=1.0)
    read = min(count, STATISTICS_SAMPLES)
    passes: list[Pass] = []
    if statistics.mode == "auto":
        passes.append(ChooseShare(read, recipe.training(read).batch_size))
    if plan.arm.name == "adabn":
        batch_size = min(recipe.duration.batch_size, count)
        passes.append(AdaptStatistics(0, len(blocks), count, batch_size, statistics.share(count)))
        return ResolvedPlan(plan, blocks, blocks, 0, statistics, None, tuple(passes))
    if plan.arm.solves:
        if statistics.adapts and batch_norms(blocks.model):
            passes.append(AdaptStatistics(0, len(blocks), read, PREFIX_BATCH, statistics.share(read)))
        passes.append(SolveHead(plan.arm.name, 0, count, SOLVED_BATCH))
        return ResolvedPlan(plan, blocks, blocks, 0, statistics, None, tuple(passes))
    stages, start = cut_before(blocks, plan.arm)
    rear = block is not None and block.index == len(blocks) - 1
    joint = _is_joint(blocks, plan.arm)
    middle = block is not None and block.index > 0 and not rear
    training = recipe.training(count, middle, rear, joint, _is_front(blocks, plan.arm))
    val_samples = val_count if training.validate else 0
    refreshes = recipe.tracking.refresh and statistics.adapts
    if start and refreshes and batch_norms(stages.prefix(start)):
        passes.append(AdaptStatistics(0, start, read, PREFIX_BATCH, statistics.share(read)))
    first = 0
    if start and recipe.computation.cache:
        passes.append(CachePrefix(start, count, val_samples, PREFIX_BATCH))
        first = start
    if joint and recipe.joint.solves_head and linear_head(blocks) is not None:
        if refreshes and batch_norms(stages.onward(first)):
            passes.append(AdaptStatistics(first, len(stages), read, PREFIX_BATCH, statistics.share(read)))
        passes.append(SolveHead("ridge", first, count, SOLVED_BATCH))
    passes.append(Train(first, count, val_samples))
    if refreshes and batch_norms(stages.onward(first)):
        # Without a share of the base's statistics, which belong to the old weights.
        passes.append(AdaptStatistics(first, len(stages), read, training.batch_size, 0.0))
    settled = replace_plan(plan, recipe=recipe) if recipe is not plan.recipe else plan
    return ResolvedPlan(settled, blocks, stages, start, statistics, training, tuple(passes))


def _is_joint(blocks: Blocks, arm: Arm) -> bool:
    """Whether an arm has the head and other layers outside the last block."""
    if arm.is_full:
        return True
    rear = blocks.infos[-1].name
    has_head = blocks.head in arm.parts or rear in arm.parts
    return has_head and any(part != blocks.head and part != rear for part in arm.parts)


def _is_front(blocks: Blocks, arm: Arm) -> bool:
    """Whether an arm is the first of several blocks, in a network for pictures with BatchNorm."""
    if arm.name != blocks.names[0] or len(blocks) < 2 or not batch_norms(blocks.model):
        return False
    return any(isinstance(module, nn.Conv2d) for module in blocks.block(0).modules())
