"""The workload of a resolved plan: how often which operation runs on which stage of the model.

It counts the passes that :func:`tbft.plan.resolve` lists, the same that tuning executes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tbft.blocks import Blocks
from tbft.choosing.timing import Operation
from tbft.plan import ResolvedPlan
from tbft.plan.resolution import AdaptStatistics, CachePrefix, ChooseShare, Train
from tbft.tuning.batchnorm import SHARES


@dataclass(frozen=True)
class Workload:
    """How often each operation runs.

    Attributes:
        start: the first stage that trains.
        samples: that go through a training step, each as often as there are epochs.
        steps: of the optimizer.
        training: operations of the training steps.
        passes: operations outside of them: the prefix, statistics, validation, acceptance.
    """

    start: int
    samples: int
    steps: int
    training: Mapping[Operation, float]
    passes: Mapping[Operation, float]

    @property
    def operations(self) -> dict[Operation, float]:
        """All of them."""
        total = Counter(self.training)
        total.update(self.passes)
        return dict(total)


def workload_of(resolved: ResolvedPlan, stages: Blocks, judged: int = 0) -> Workload:
    """Count the passes of a resolved plan.

    Args:
        stages: the same model, cut at least as finely as the plan has it.
        judged: held-out samples on which base and tuned model are compared afterwards.
    """
    counted = _Counted(resolved, stages)
    if resolved.passes and judged:
        counted.forward("evaluate", 0, len(stages), 2 * judged)
    for one in resolved.passes:
        counted.add(one)
    trained = sum(one.samples for one in resolved.passes if isinstance(one, Train))
    epochs = 0 if resolved.training is None else resolved.training.epochs
    return Workload(counted.start, epochs * trained, resolved.steps, counted.training, counted.passes)


class _Counted:
    def __init__(self, resolved: ResolvedPlan, stages: Blocks) -> None:
        self.resolved, self.stages = resolved, stages
        self.start = self.position(resolved.start)
        self.training: Counter[Operation] = Counter()
        self.passes: Counter[Operation] = Counter()

    def position(self, stage: int) -> int:
        """Where a stage of the plan starts among the finer ones."""
        own = self.resolved.stages
        if stage in (0, len(own)):
            return 0 if stage == 0 else len(self.stages)
        return self.stages.cuts.index(own.cuts[stage - 1]) + 1

    def forward(self, kind: str, first: int, end: int, samples: float) -> None:
        """Samples through stages, and into the first of them."""
        self.passes.update({Operation(kind, k): samples for k in range(first, end)})
        self.passes.update({Operation("load", first): samples})

    def add(self, one: ChooseShare | AdaptStatistics | CachePrefix | Train) -> None:
        """Count one pass."""
        if isinstance(one, ChooseShare):
            self.forward("adapt", 0, len(self.stages), one.samples)
            self.forward("evaluate", 0, len(self.stages), len(SHARES) * one.samples)
        elif isinstance(one, AdaptStatistics):
            self.forward("adapt", self.position(one.first), self.position(one.end), one.samples)
        elif isinstance(one, CachePrefix):
            self.forward("cache", 0, self.position(one.end), one.samples + one.val_samples)
            self.passes.update({Operation("load", self.position(one.end)): one.samples})
        else:
            self.train(one, self.position(one.first))

    def train(self, one: Train, first: int) -> None:
        """The frozen prefix if it is not cached, then forward and backward passes, steps and validation."""
        resolved, stages = self.resolved, self.stages
        assert resolved.training is not None
        samples, steps = resolved.training.epochs * one.samples, resolved.steps
        if one.val_samples:
            self.forward("evaluate", first, len(stages), resolved.training.epochs * one.val_samples)
        tuned = {id(p) for p in resolved.blocks.trainable(resolved.plan.arm)}
        named = dict(stages.model.named_parameters(remove_duplicate=False))
        kind = "adapt" if resolved.track == "all" else "cache"
        self.training.update({Operation("load", first): samples, Operation("loop"): steps})
        self.training.update({Operation(kind, k): samples for k in range(first, self.start)})
        for block in list(stages)[self.start :]:
            trains = any(key in named and id(named[key]) in tuned for key in block.keys)
            backward = "inputs" if not trains else "weights" if block.index == self.start else "both"
            operations = {
                Operation("forward", block.index): samples,
                Operation(backward, block.index): samples,
            }
            self.training.update(operations)
            if trains:
                self.training.update({Operation("optimizer", block.index): steps})
