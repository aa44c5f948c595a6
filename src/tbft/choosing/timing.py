"""Time each operation of an adaptation on this machine now, on one small batch.

Operations are forward passes of stages, backward passes of frozen stages, and optimizer steps. Only the
operations asked for are timed, each block once, so that a calibration costs about as much as two training
steps. Timing is needed because floating-point operations alone predict little: BatchNorm and activations
have few of them and take as long as convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.precision import Computing
from tbft.blocks.state import batch_norms, evaluating, flags_restored, modes_restored, values_restored
from tbft.data.samples import Samples, make_samples
from tbft.plan import Recipe, Training
from tbft.plan.numbers import Computation
from tbft.tuning.loop import Run, fit
from tbft.tuning.optimizers import make_optimizer
from tbft.verification.evaluation import computing_on

#: Operations of a kind are repeated until they have taken this much processor time, and at most
#: :data:`MAX_REPEATS` times. It is so little that most are timed once, to keep choosing cheap; take more for
#: a table or a record.
MIN_SECONDS = 0.01
MAX_REPEATS = 25
LOOP_STEPS = 25
#: Batch sizes of forward passes outside training steps; a smaller batch is timed where that is enough.
FORWARD_BATCHES = {"cache": 32, "adapt": 32, "evaluate": 256}


class Operation(NamedTuple):
    """Something that a plan does many times.

    Kinds counted per sample: ``load`` reads samples as the stage's input; ``cache``, ``adapt`` and
    ``evaluate`` run the stage forward without gradients (in evaluation mode; with BatchNorms tracking; as
    accuracy is measured); ``forward`` runs it with gradients; ``weights``, ``inputs`` and ``both`` run it
    backward to its weights, its input, or both. Kinds counted per step: ``loop`` and ``optimizer``.
    """

    kind: str
    stage: int = 0


@dataclass(frozen=True)
class Timings:
    """Processor seconds of operations, per sample or per step.

    Attributes:
        seconds: operation -> processor seconds.
        wall_share: wall seconds per processor second; below 1 with several threads.
        scalars: for each stage, the number of scalars in one sample's input.
    """

    seconds: Mapping[Operation, float]
    wall_share: float
    scalars: tuple[int, ...]

    def of(self, work: Mapping[Operation, float]) -> float:
        """Processor seconds of a workload, given as operation -> number of samples or steps."""
        return sum(amount * self.seconds[operation] for operation, amount in work.items())


def calibrate(
    blocks: Blocks,
    operations: Iterable[Operation],
    samples: Samples,
    recipe: Recipe,
    batch_size: int,
    min_seconds: float = MIN_SECONDS,
) -> Timings:
    """Time operations of a model; its values, modes and flags and the random state are restored.

    Args:
        blocks: the stages that the operations refer to.
        samples: some are used as input; labels are ignored.
        recipe: determines how training computes.
        batch_size: batch size of the plan; small batches take longer per sample, so this size is timed.
        min_seconds: how long to repeat the operations of a kind; the median counts.
    """
    wanted, settings = set(operations), recipe.computation
    computing = computing_on(blocks.whole, samples, settings.precision, settings.channels_last)
    training = replace(recipe.training(batch_size), computing=computing)
    clock = _Clock(min_seconds)
    batch = samples.subset(np.arange(max(2, batch_size)) % len(samples))
    with (
        values_restored(blocks.model),
        flags_restored(blocks.model),
        modes_restored(blocks.model),
        torch.random.fork_rng(devices=[]),
    ):
        inputs = _stage_inputs(blocks, batch, computing)
        loaded = {k: _stored(batch, inputs[k], k) for k in _stages(wanted, "load")}
        if loaded:
            clock.repeat(
                lambda: [
                    clock.lap(Operation("load", k), len(batch), _load, s, computing)
                    for k, s in loaded.items()
                ]
            )
        for kind, max_batch in FORWARD_BATCHES.items():
            if stages := _stages(wanted, kind):
                run = partial(_run_forward, blocks, kind, stages, computing, clock)
                _time_forward(run, kind, inputs[stages[0]], min(max_batch, len(samples)), clock)
        if stages := _stages(wanted, "forward"):
            blocks.model.train()
            clock.repeat(partial(_run_steps, blocks, wanted, stages, inputs[stages[0]], training, clock))
        if Operation("loop") in wanted:
            clock.repeat(lambda: clock.lap(Operation("loop"), LOOP_STEPS, _run_loop, training, len(batch)))
    # An operation without a lap has nothing to compute.
    seconds_of = dict.fromkeys(wanted, 0.0) | {
        operation: float(np.median(laps)) for operation, laps in clock.laps.items()
    }
    return Timings(seconds_of, clock.wall_share, tuple(x[0].numel() for x in inputs))


class _Clock:
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


def _stages(wanted: Iterable[Operation], kind: str) -> list[int]:
    return sorted(operation.stage for operation in wanted if operation.kind == kind)


def _stage_inputs(blocks: Blocks, samples: Samples, computing: Computing) -> list[Tensor]:
    """The input of each stage, as the cache provides it."""
    inputs = [computing.laid_out(samples.batch(slice(0, len(samples)))[0])]
    with evaluating(blocks.model), computing.autocast():
        for k in range(len(blocks) - 1):
            inputs.append(blocks.block(k)(inputs[-1]))
    return [x.float() if x.is_floating_point() else x for x in inputs]


def _stored(samples: Samples, x: Tensor, k: int) -> Samples:
    if k == 0:
        return samples
    return replace(samples, inputs=x.contiguous().cpu().numpy(), as_taken=True, token_ids=False, packing=None)


def _load(samples: Samples, computing: Computing) -> Any:
    return computing.laid_out(samples.batch(np.random.default_rng(0).permutation(len(samples)))[0])


def _time_forward(run: Callable[[Tensor], None], kind: str, x: Tensor, size: int, clock: _Clock) -> None:
    """Time a forward pass on the batch `x`; on one of `size`, as in the plan, where that costs little."""
    seconds = clock.repeat(partial(run, x), 1)
    if len(x) < size and seconds * size / len(x) < clock.min_seconds:
        clock.forget(kind)
        clock.repeat(partial(run, x[torch.arange(size) % len(x)]))
    elif seconds < clock.min_seconds:
        clock.repeat(partial(run, x))


def _run_forward(
    blocks: Blocks, kind: str, stages: list[int], computing: Computing, clock: _Clock, x: Tensor
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


def _run_steps(
    blocks: Blocks, wanted: set[Operation], stages: list[int], x: Tensor, training: Training, clock: _Clock
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


def _run_loop(training: Training, batch_size: int) -> None:
    """Run the real training loop on a tiny model, to time what a step costs besides the model."""
    model, count = _TinyModel(), batch_size * LOOP_STEPS
    few = make_samples(np.zeros((count, 2), np.float32), np.arange(count) % 2)
    still = replace(training.optimization, learning_rate=0.0)
    short = Training(still, Computation(), batch_size, epochs=1)
    fit(model, make_optimizer(still, list(model.parameters())), short, few, None, Run())
