"""Settle every number of a plan for a model and a number of samples, once.

What comes out lists the passes in the order in which they are run. Tuning executes that list and the cost
model counts it, so neither decides anything by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from tbft.blocks import Blocks, cut_before
from tbft.blocks.state import batch_norms
from tbft.plan.plan import Plan, replace_plan
from tbft.plan.recipe import Training
from tbft.plan.statistics import KEEP, Statistics

#: AdaBN in a plan that refreshes reads at most so many samples; more would cost more than they change.
STATISTICS_SAMPLES = 256
#: Samples that go through a frozen prefix at a time.
PREFIX_BATCH = 32


@dataclass(frozen=True)
class ChooseShare:
    """Try shares of the source statistics on labeled samples, by forward passes alone."""

    samples: int
    batch_size: int


@dataclass(frozen=True)
class AdaptStatistics:
    """AdaBN of the stages from `first` up to, but not with, `end`.

    Attributes:
        samples: read at most; drawn at random by the plan's seed where there are more.
        source_share: weight of the source statistics.
    """

    first: int
    end: int
    samples: int
    batch_size: int
    source_share: float


@dataclass(frozen=True)
class CachePrefix:
    """Run the stages before `end` once; what follows reads their outputs."""

    end: int
    samples: int
    val_samples: int
    batch_size: int


@dataclass(frozen=True)
class Train:
    """The training loop on the stages from `first` on, and validation where the recipe asks for it."""

    first: int
    samples: int
    val_samples: int


Pass = ChooseShare | AdaptStatistics | CachePrefix | Train


@dataclass(frozen=True, eq=False)
class ResolvedPlan:
    """A plan with every number settled for a model and a number of samples.

    Attributes:
        plan: as it was made.
        blocks: the model as it was split.
        stages: the same, cut so that the arm starts a stage, where one tensor crosses there.
        start: the first stage that is trained; 0 where nothing is.
        statistics: what becomes of BatchNorm's statistics, see :class:`Scaling`.
        training: what the loop reads; None where nothing is trained.
        passes: what is run, in order.
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
        """Whose BatchNorms follow the data while training."""
        return self.plan.recipe.tracking.track if self.statistics.adapts else "none"

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return sum(
            self.training.epochs * self.training.steps_per_epoch(one.samples)
            for one in self.passes
            if isinstance(one, Train) and self.training is not None
        )


def resolve(plan: Plan, blocks: Blocks, count: int, val_count: int = 0) -> ResolvedPlan:
    """Settle a plan for so many training samples, and held-out ones that choose the epoch to keep.

    Raises:
        SplitError: an arm that the model does not have.
    """
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
    stages, start = cut_before(blocks, plan.arm)
    rear = block is not None and block.index == len(blocks) - 1
    training = recipe.training(count, block is not None and block.index > 0 and not rear, rear)
    val_samples = val_count if training.validate else 0
    refreshes = recipe.tracking.refresh and statistics.adapts
    if start and refreshes and batch_norms(stages.prefix(start)):
        passes.append(AdaptStatistics(0, start, read, PREFIX_BATCH, statistics.share(read)))
    first = 0
    if start and recipe.computation.cache:
        passes.append(CachePrefix(start, count, val_samples, PREFIX_BATCH))
        first = start
    passes.append(Train(first, count, val_samples))
    if refreshes and batch_norms(stages.onward(first)):
        # The base's statistics have no share in it: they belong to the weights from before.
        passes.append(AdaptStatistics(first, len(stages), read, training.batch_size, 0.0))
    settled = replace_plan(plan, recipe=recipe) if recipe is not plan.recipe else plan
    return ResolvedPlan(settled, blocks, stages, start, statistics, training, tuple(passes))
