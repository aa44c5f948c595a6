"""Time each operation of an adaptation on this machine now, on one small batch.

Operations are forward passes of stages, backward passes of frozen stages, and optimizer steps. Only the
operations asked for are timed, each block once, so that a calibration costs about as much as two training
steps. Timing is needed because floating-point operations alone predict little: BatchNorm and activations
have few of them and take as long as convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tbft.blocks import Blocks
from tbft.blocks.precision import Computing
from tbft.blocks.state import evaluating, flags_restored, modes_restored, values_restored
from tbft.choosing.operations import LOOP_STEPS, Clock, Operation, run_forward, run_loop, run_steps
from tbft.data.samples import Samples
from tbft.plan import Recipe
from tbft.verification.running import computing_on

#: Operations of a kind are repeated until they have taken this much processor time, or were repeated
#: ``operations.MAX_REPEATS`` times. It is so little that most are timed once, to keep choosing cheap; take
#: more for a table or a record.
MIN_SECONDS = 0.01
#: Batch sizes of forward passes outside training steps; a smaller batch is timed where that is enough.
FORWARD_BATCHES = {"cache": 32, "adapt": 32, "evaluate": 256}


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
    clock = Clock(min_seconds)
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
                run = partial(run_forward, blocks, kind, stages, computing, clock)
                _time_forward(run, kind, inputs[stages[0]], min(max_batch, len(samples)), clock)
        if stages := _stages(wanted, "forward"):
            blocks.model.train()
            clock.repeat(partial(run_steps, blocks, wanted, stages, inputs[stages[0]], training, clock))
        if Operation("loop") in wanted:
            clock.repeat(lambda: clock.lap(Operation("loop"), LOOP_STEPS, run_loop, training, len(batch)))
    # An operation without a lap has nothing to compute.
    seconds_of = dict.fromkeys(wanted, 0.0) | {
        operation: float(np.median(laps)) for operation, laps in clock.laps.items()
    }
    return Timings(seconds_of, clock.wall_share, tuple(x[0].numel() for x in inputs))


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


def _time_forward(run: Callable[[Tensor], None], kind: str, x: Tensor, size: int, clock: Clock) -> None:
    """Time a forward pass on the batch `x`; on one of `size`, as in the plan, where that costs little."""
    seconds = clock.repeat(partial(run, x), 1)
    if len(x) < size and seconds * size / len(x) < clock.min_seconds:
        clock.forget(kind)
        clock.repeat(partial(run, x[torch.arange(size) % len(x)]))
    elif seconds < clock.min_seconds:
        clock.repeat(partial(run, x))
