"""A plan, written down as how often which piece of the model runs: what costs are predicted from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tbft.blocks import Blocks, cut_before
from tbft.blocks.state import batch_norms
from tbft.choosing.timing import Piece
from tbft.plan import Plan
from tbft.tuning.execution import STATISTICS_SAMPLES


@dataclass(frozen=True)
class Job:
    """A plan, written down as how often which piece of the model runs; stages as in
    :func:`tbft.blocks.stages_for`.

    Attributes:
        start: the first stage that trains.
        samples: that go through a training step, each as often as there are epochs.
        steps: of the optimizer.
        training: pieces of the training steps.
        passes: pieces outside of them: the prefix, statistics, validation, judging.
    """

    start: int
    samples: int
    steps: int
    training: Mapping[Piece, float]
    passes: Mapping[Piece, float]

    @property
    def work(self) -> dict[Piece, float]:
        """All pieces."""
        found = dict(self.training)
        for piece, amount in self.passes.items():
            found[piece] = found.get(piece, 0.0) + amount
        return found


def job_of(blocks: Blocks, stages: Blocks, plan: Plan, count: int, val_count: int = 0) -> Job:
    """What :func:`tbft.tuning.execution.tune` does for a plan, and judging after it, as pieces of the stages.

    Args:
        count: samples to tune on.
        val_count: held-out samples.
    """
    plan = plan.for_samples(count)
    every, recipe = range(len(stages)), plan.recipe
    passes: Counter[Piece] = Counter()

    def forward(kind: str, which: Iterable[int], amount: float, entry: int | None = None) -> None:
        passes.update({Piece(kind, k): amount for k in which})
        if entry is not None:
            passes.update({Piece("deal", entry): amount})

    if plan.arm == "none":
        return Job(0, 0, 0, {}, {})
    if plan.source_share == "auto":
        few = min(count, STATISTICS_SAMPLES)
        forward("adapt", every, few, entry=0)
        forward("judge", every, 6 * few, entry=0)
    if not recipe.validate and val_count:  # before and after
        forward("judge", every, 2 * val_count, entry=0)
    if plan.arm == "adabn":
        forward("adapt", every, count, entry=0)
        return Job(0, 0, 0, {}, passes)
    own, at = cut_before(blocks, plan.arm)
    start = stages.cuts.index(own.cuts[at - 1]) + 1 if at else 0
    block = blocks.block_of(plan.arm)
    rear = block is not None and block.index == len(blocks) - 1
    recipe = recipe.for_samples(count, block is not None and block.index > 0 and not rear, rear)
    statistics = min(count, STATISTICS_SAMPLES)
    refreshes = recipe.refresh and plan.adapts
    if start and refreshes and batch_norms(stages.prefix(start)):
        forward("adapt", range(start), statistics, entry=0)
    if start and recipe.cache:
        forward("cache", range(start), count, entry=0)
        passes.update({Piece("deal", start): count})
        if recipe.validate:
            forward("cache", range(start), val_count, entry=0)
    entry = start if recipe.cache else 0
    if refreshes and batch_norms(stages.onward(start)):
        forward("adapt", range(entry, len(stages)), statistics, entry=entry)
    if recipe.validate:
        forward("judge", range(entry, len(stages)), recipe.epochs * val_count, entry=entry)
    steps = recipe.epochs * recipe.steps_per_epoch(count)
    trained = recipe.epochs * count
    training = _training(stages, blocks, plan, start, entry, trained, steps)
    return Job(start, trained, steps, training, passes)


def _training(
    stages: Blocks, blocks: Blocks, plan: Plan, start: int, entry: int, samples: int, steps: int
) -> Counter[Piece]:
    """Pieces of the training steps: the frozen prefix if it is not cached, then forward and backward."""
    ids = {id(p) for module in blocks.tuned_modules(plan.arm) for p in module.parameters()}
    named = dict(stages.model.named_parameters(remove_duplicate=False))
    found: Counter[Piece] = Counter({Piece("deal", entry): samples, Piece("loop"): steps})
    tracks = plan.recipe.track == "all" and plan.adapts
    found.update({Piece("adapt" if tracks else "cache", k): samples for k in range(entry, start)})
    for block in list(stages)[start:]:
        tuned = any(key in named and id(named[key]) in ids for key in block.keys)
        kind = "inputs" if not tuned else "weights" if block.index == start else "both"
        found.update({Piece("forward", block.index): samples, Piece(kind, block.index): samples})
        if tuned:
            found.update({Piece("optimize", block.index): steps})
    return found
