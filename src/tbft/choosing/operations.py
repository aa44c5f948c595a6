"""The operations of an adaptation, each carried out once as in a real run, under a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.precision import Computing
from tbft.blocks.state import batch_norms, evaluating
from tbft.data.samples import make_samples
from tbft.plan import Training
from tbft.plan.numbers import Computation
from tbft.tuning.loop import Run, fit
from tbft.tuning.optimizers import make_optimizer

#: Operations of a kind are repeated at most so many times.
MAX_REPEATS = 25
#: Steps of the training loop that are timed in a row.
LOOP_STEPS = 25


class Operation(NamedTuple):
    """Something that a plan does many times.

    Kinds counted per sample: ``load`` reads samples as the stage's input; ``cache``, ``adapt`` and
    ``evaluate`` run the stage forward without gradients (in evaluation mode; with BatchNorms tracking; as
    accuracy is measured); ``forward`` runs it with gradients; ``weights``, ``inputs`` and ``both`` run it
    backward to its weights, its input, or both. Kinds counted per step: ``loop`` and ``optimizer``.
    """

    kind: str
    stage: int = 0


class Clock:
    """Records the processor time of operations, and the wall time alongside."""

    def __init__(self, min_seconds: float) -> None:
        self.min_seconds = min_seconds
        self.laps: dict[Operation, list[float]] = {}
        self._wall = self._cpu = 0.0

    def lap(self, operation: Operation, amount: int, work: Callable[..., Any], *arguments: object) -> Any:
        """Call `work`, which carries out an operation `amount` times, and record its time."""
        wall, cpu = time.perf_counter(), time.process_time()
        out = work(*arguments)
        cpu = time.process_time() - cpu
        self._wall += time.perf_counter() - wall
        self._cpu += cpu
        self.laps.setdefault(operation, []).append(cpu / amount)
        return out

    def repeat(self, run: Callable[[], object], max_repeats: int = MAX_REPEATS) -> float:
        """Run operations in a row, so that each finds the processor's caches as in a real run.

        Returns:
            processor seconds of the first timed run.
        """
        known = set(self.laps)
        run()
        for operation in set(self.laps) - known:  # that was the warm-up
            self.laps[operation].clear()
        start = time.process_time()
        run()
        first = time.process_time() - start
        for _ in range(max_repeats - 1):
            if time.process_time() - start >= self.min_seconds:
                break
            run()
        return first

    def forget(self, kind: str) -> None:
        """Drop the records of operations of a kind."""
        self.laps = {operation: laps for operation, laps in self.laps.items() if operation.kind != kind}

    @property
    def wall_share(self) -> float:
        # On an idle machine one thread takes just its processor time; on a busy one a measurement is useless.
        threads = torch.get_num_threads()
        return 1.0 if threads == 1 or not self._cpu else max(self._wall / self._cpu, 1 / threads)


def run_forward(
    blocks: Blocks, kind: str, stages: list[int], computing: Computing, clock: Clock, x: Tensor
) -> None:
    """Run stages forward without gradients, as the cache, AdaBN or an evaluation does."""

    def forward(stage: nn.Module, x: Tensor) -> Tensor:
        # The cache sets the modes for every batch, the others once.
        modes = evaluating(stage) if kind == "cache" else nullcontext()
        with modes, nullcontext() if kind == "evaluate" else computing.autocast():
            return stage(x)

    x = x.contiguous() if kind == "evaluate" else x
    with evaluating(blocks.model):
        for norm in batch_norms(blocks.model) if kind == "adapt" else ():
            norm.train()
        for k in range(stages[0], stages[-1] + 1):
            x = clock.lap(Operation(kind, k), len(x), forward, blocks.block(k), x)


def run_steps(
    blocks: Blocks, wanted: set[Operation], stages: list[int], x: Tensor, training: Training, clock: Clock
) -> None:
    """Run stages forward and backward as in a training step, and the optimizer on their weights."""

    def forward(stage: nn.Module, x: Tensor) -> Tensor:
        with training.computing.autocast():
            return stage(x)

    x = x if training.computing.channels_last else x.contiguous()
    ends: list[tuple[int, Tensor, Tensor]] = []
    for k in range(stages[0], stages[-1] + 1):
        x = x.detach().requires_grad_(Operation("inputs", k) in wanted or Operation("both", k) in wanted)
        ends.append((k, x, clock.lap(Operation("forward", k), len(x), forward, blocks.block(k), x)))
        x = ends[-1][-1]
    for k, x, out in reversed(ends):
        gradient = torch.randn_like(out)
        weights = [p for p in blocks.block(k).parameters() if p.requires_grad]
        for kind, targets in (("inputs", [x]), ("weights", weights), ("both", [x, *weights])):
            if Operation(kind, k) in wanted and targets and out.requires_grad:
                clock.lap(Operation(kind, k), len(x), _backward, out, targets, gradient)
        if Operation("optimizer", k) in wanted and weights:
            for p in weights:
                p.grad = torch.zeros_like(p)
            optimizer = make_optimizer(replace(training.optimization, learning_rate=0.0), weights)
            optimizer.step()  # the first step creates its state
            clock.lap(Operation("optimizer", k), 1, optimizer.step)


def _backward(out: Tensor, targets: list[Tensor], gradient: Tensor) -> object:
    loss = _WithGradient.apply(out, gradient)  # type: ignore[no-untyped-call]
    return torch.autograd.grad(loss, targets, retain_graph=True, allow_unused=True)


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient is given. Torch imports sympy for `grad_outputs`, which takes half a second."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return out.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        return ctx.gradient, None


class _TinyModel(nn.Module):
    """The smallest model that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def run_loop(training: Training, batch_size: int) -> None:
    """Run the real training loop on a tiny model, to time what a step costs besides the model."""
    model, count = _TinyModel(), batch_size * LOOP_STEPS
    few = make_samples(np.zeros((count, 2), np.float32), np.arange(count) % 2)
    still = replace(training.optimization, learning_rate=0.0)
    short = Training(still, Computation(), batch_size, epochs=1)
    fit(model, make_optimizer(still, list(model.parameters())), short, few, None, Run())
