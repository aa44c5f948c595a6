"""The workload of a resolved plan: how often each operation runs on each stage of the model.

It counts the passes that :func:`tbft.plan.resolve` lists, which are the passes that tuning executes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tbft.blocks import Blocks
from tbft.choosing.operations import Operation
from tbft.plan import ResolvedPlan
from tbft.plan.resolution import AdaptStatistics, CachePrefix, ChooseShare, Pass, SolveHead, Train
from tbft.tuning.batchnorm import SHARES


@dataclass(frozen=True)
class Workload:
    """How often each operation runs.

    Attributes:
        start: the first stage that trains.
        samples: samples in all training steps, each counted as often as it is used.
        steps: number of optimizer steps.
        training: operations of the training steps.
        passes: operations outside training steps: prefix, statistics, validation, acceptance.
    """

    start: int
    samples: int
    steps: int
    training: Mapping[Operation, float]
    passes: Mapping[Operation, float]

    @property
    def operations(self) -> dict[Operation, float]:
        """All operations."""
        total = Counter(self.training)
        total.update(self.passes)
        return dict(total)


def workload_of(resolved: ResolvedPlan, stages: Blocks, judged: int = 0) -> Workload:
    """Count the passes of a resolved plan.

    Args:
        stages: the same model, cut at least as finely as in the plan.
        judged: number of held-out samples on which base and tuned model are compared afterwards.
    """
    counted = _Counted(resolved, stages)
    if resolved.passes and judged:
        counted.forward("evaluate", 0, len(stages), 2 * judged)
    for step in resolved.passes:
        counted.add(step)
    return Workload(counted.start, counted.samples, resolved.steps, counted.training, counted.passes)


class _Counted:
    def __init__(self, resolved: ResolvedPlan, stages: Blocks) -> None:
        self.resolved, self.stages = resolved, stages
        self.start = self.position(resolved.start)
        self.samples = 0
        self.training: Counter[Operation] = Counter()
        self.passes: Counter[Operation] = Counter()

    def position(self, stage: int) -> int:
        """Index of the finer stage at which a stage of the plan starts."""
        coarse = self.resolved.stages
        if stage in (0, len(coarse)):
            return 0 if stage == 0 else len(self.stages)
        return self.stages.cuts.index(coarse.cuts[stage - 1]) + 1

    def forward(self, kind: str, first: int, end: int, samples: float) -> None:
        """Count samples that run through stages, and their loading into the first one."""
        self.passes.update({Operation(kind, k): samples for k in range(first, end)})
        self.passes.update({Operation("load", first): samples})

    def add(self, step: Pass) -> None:
        """Count one pass."""
        if isinstance(step, ChooseShare):
            self.forward("adapt", 0, len(self.stages), step.samples)
            self.forward("evaluate", 0, len(self.stages), len(SHARES) * step.samples)
        elif isinstance(step, AdaptStatistics):
            self.forward("adapt", self.position(step.first), self.position(step.end), step.samples)
        elif isinstance(step, CachePrefix):
            self.forward("cache", 0, self.position(step.end), step.samples + step.val_samples)
            self.passes.update({Operation("load", self.position(step.end)): step.samples})
        elif isinstance(step, SolveHead):
            self.forward("evaluate", self.position(step.first), len(self.stages), step.samples)
        else:
            self.train(step, self.position(step.first))

    def train(self, step: Train, first: int) -> None:
        """Count the prefix unless cached, forward and backward passes, optimizer steps and validation."""
        resolved, stages = self.resolved, self.stages
        assert resolved.training is not None
        steps = resolved.steps
        samples = self.samples = round(step.samples * steps / resolved.training.steps_per_epoch(step.samples))
        if step.val_samples:
            self.forward("evaluate", first, len(stages), resolved.training.epochs * step.val_samples)
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
