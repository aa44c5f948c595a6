"""How long each piece of an adaptation takes on this machine now, timed on one small batch.

A job is so many samples through so many pieces: stages forward, frozen stages backward, an optimizer's
steps. Only the pieces that somebody asks for are timed, each block once, so that a calibration costs about
as much as two training steps. Timing is needed because operations alone predict little: BatchNorm and
activations have few of them, and take as long as convolutions.
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
from tbft.blocks.precision import autocast, laid_out
from tbft.blocks.state import batch_norms, evaluating, flags_restored, modes_restored, values_restored
from tbft.data.samples import Samples, make_samples
from tbft.plan import Recipe
from tbft.tuning.loop import fit, make_optimizer

#: Pieces are repeated until those of a kind have had so much processor time, and at most
#: :data:`MOST_REPEATS` times. So little that most are timed once, as choosing is to cost little. For a
#: table or a record, take more.
LEAST_SECONDS = 0.01
MOST_REPEATS = 25
LOOP_STEPS = 25
#: Batches in which stages run forward outside of training steps; a smaller one is timed where that is enough.
FORWARD_BATCHES = {"cache": 32, "adapt": 32, "judge": 256}


class Piece(NamedTuple):
    """Something that a job does many times.

    Kinds, by sample: ``deal``, samples taken out as the stage's input; ``cache``, ``adapt`` and ``judge``,
    the stage forward without gradients, in evaluation mode, with BatchNorms tracking, and as accuracy is
    measured; ``forward``, with gradients; ``weights``, ``inputs`` and ``both``, the stage backward with the
    gradients of its weights, its input, or both. By step: ``loop`` and ``optimize``.
    """

    kind: str
    stage: int = 0


@dataclass(frozen=True)
class Pace:
    """Processor seconds of pieces, by the sample or the step.

    Attributes:
        seconds: piece -> processor seconds.
        wall_share: wall seconds for each processor second; below 1 with several threads.
        scalars: numbers that enter each stage for one sample.
    """

    seconds: Mapping[Piece, float]
    wall_share: float
    scalars: tuple[int, ...]

    def of(self, work: Mapping[Piece, float]) -> float:
        """Processor seconds of a job: piece -> how many samples or steps."""
        return sum(amount * self.seconds[piece] for piece, amount in work.items())


def calibrate(
    blocks: Blocks,
    pieces: Iterable[Piece],
    samples: Samples,
    recipe: Recipe,
    batch_size: int,
    least_seconds: float = LEAST_SECONDS,
) -> Pace:
    """Time pieces of a model; values, modes, flags and random numbers come back as they were.

    Args:
        blocks: the stages that pieces speak of.
        samples: some are used as input; labels are not looked at.
        recipe: says how training computes.
        batch_size: of the job. Short batches take longer a sample, so that of the job is timed.
        least_seconds: how long to repeat the pieces of a kind for; the median counts.
    """
    wanted = set(pieces)
    clock = _Clock(least_seconds)
    at = np.arange(max(2, batch_size)) % len(samples)
    with (
        values_restored(blocks.model),
        flags_restored(blocks.model),
        modes_restored(blocks.model),
        torch.random.fork_rng(devices=[]),
    ):
        few = _entering(blocks, samples.subset(at), recipe)
        dealt = {k: _stored(samples.subset(at), few[k], k) for k in _stages(wanted, "deal")}
        if dealt:
            clock.repeat(lambda: [clock.lap(Piece("deal", k), len(at), _deal, s) for k, s in dealt.items()])
        for kind, most in FORWARD_BATCHES.items():
            if stages := _stages(wanted, kind):
                run = partial(_run_forward, blocks, kind, stages, recipe, clock)
                _time_forward(run, kind, few[stages[0]], min(most, len(samples)), clock)
        if stages := _stages(wanted, "forward"):
            blocks.model.requires_grad_(True).train()
            clock.repeat(partial(_run_steps, blocks, wanted, stages, few[stages[0]], recipe, clock))
        if Piece("loop") in wanted:
            clock.repeat(lambda: clock.lap(Piece("loop"), LOOP_STEPS, _run_loop, recipe, len(at)))
    # What left no lap has nothing to compute.
    seconds_of = dict.fromkeys(wanted, 0.0) | {
        piece: float(np.median(laps)) for piece, laps in clock.laps.items()
    }
    return Pace(seconds_of, clock.wall_share, tuple(x[0].numel() for x in few))


class _Clock:
    """Notes how long pieces take, and the wall time that goes with it."""

    def __init__(self, least_seconds: float) -> None:
        self.least_seconds = least_seconds
        self.laps: dict[Piece, list[float]] = {}
        self._wall = self._cpu = 0.0

    def lap(self, piece: Piece, amount: int, work: Callable[..., Any], *given: object) -> Any:
        """Run and time what does a piece `amount` times."""
        wall, cpu = time.perf_counter(), time.process_time()
        out = work(*given)
        cpu = time.process_time() - cpu
        self._wall += time.perf_counter() - wall
        self._cpu += cpu
        self.laps.setdefault(piece, []).append(cpu / amount)
        return out

    def repeat(self, run: Callable[[], object], most: int = MOST_REPEATS) -> float:
        """Run some pieces in a row, so that each finds the processor's caches as a real run leaves them.

        Returns:
            processor seconds of a run, at first.
        """
        known = set(self.laps)
        run()
        for piece in set(self.laps) - known:  # that was to warm up
            self.laps[piece].clear()
        start = time.process_time()
        run()
        first = time.process_time() - start
        for _ in range(most - 1):
            if time.process_time() - start >= self.least_seconds:
                break
            run()
        return first

    def forget(self, kind: str) -> None:
        """Drop what was noted of pieces of a kind."""
        self.laps = {piece: laps for piece, laps in self.laps.items() if piece.kind != kind}

    @property
    def wall_share(self) -> float:
        # One thread needs no longer than its processor time on an idle machine; a busy one says nothing here.
        threads = torch.get_num_threads()
        return 1.0 if threads == 1 or not self._cpu else max(self._wall / self._cpu, 1 / threads)


def _stages(wanted: Iterable[Piece], kind: str) -> list[int]:
    return sorted(piece.stage for piece in wanted if piece.kind == kind)


def _entering(blocks: Blocks, samples: Samples, recipe: Recipe) -> list[Tensor]:
    """What enters each stage, as the cache gives it."""
    found = [laid_out(samples.batch(slice(0, len(samples)))[0])]
    with evaluating(blocks.model), autocast(recipe.precision):
        for k in range(len(blocks) - 1):
            found.append(blocks.block(k)(found[-1]))
    return [x.float() for x in found]


def _stored(samples: Samples, x: Tensor, k: int) -> Samples:
    return samples if k == 0 else replace(samples, inputs=x.contiguous().numpy())


def _deal(samples: Samples) -> Tensor:
    return laid_out(samples.batch(np.random.default_rng(0).permutation(len(samples)))[0])


def _time_forward(run: Callable[[Tensor], None], kind: str, x: Tensor, size: int, clock: _Clock) -> None:
    """In the batches of the steps; in those of `size`, which the job takes, where that costs little."""
    seconds = clock.repeat(partial(run, x), 1)
    if len(x) < size and seconds * size / len(x) < clock.least_seconds:
        clock.forget(kind)
        clock.repeat(partial(run, x[torch.arange(size) % len(x)]))
    elif seconds < clock.least_seconds:
        clock.repeat(partial(run, x))


def _run_forward(
    blocks: Blocks, kind: str, stages: list[int], recipe: Recipe, clock: _Clock, x: Tensor
) -> None:
    """Stages forward without gradients, as the cache, AdaBN or an evaluation does it."""

    def forward(stage: nn.Module, x: Tensor) -> Tensor:
        # The cache sets the modes for every batch; the others do so once.
        modes = evaluating(stage) if kind == "cache" else nullcontext()
        with modes, autocast("float32" if kind == "judge" else recipe.precision):
            return stage(x)

    x = x.contiguous() if kind == "judge" else x
    with evaluating(blocks.model):
        for norm in batch_norms(blocks.model) if kind == "adapt" else ():
            norm.train()
        for k in range(stages[0], stages[-1] + 1):
            x = clock.lap(Piece(kind, k), len(x), forward, blocks.block(k), x)


def _run_steps(
    blocks: Blocks, wanted: set[Piece], stages: list[int], x: Tensor, recipe: Recipe, clock: _Clock
) -> None:
    """Stages forward and backward as in a training step, and the optimizer on their weights."""

    def forward(stage: nn.Module, x: Tensor) -> Tensor:
        with autocast(recipe.precision):
            return stage(x)

    x = x if recipe.channels_last else x.contiguous()
    ends: list[tuple[int, Tensor, Tensor]] = []
    for k in range(stages[0], stages[-1] + 1):
        x = x.detach().requires_grad_(Piece("inputs", k) in wanted or Piece("both", k) in wanted)
        ends.append((k, x, clock.lap(Piece("forward", k), len(x), forward, blocks.block(k), x)))
        x = ends[-1][-1]
    for k, x, out in reversed(ends):
        gradient, weights = torch.randn_like(out), list(blocks.block(k).parameters())
        for kind, targets in (("inputs", [x]), ("weights", weights), ("both", [x, *weights])):
            if Piece(kind, k) in wanted and targets and out.requires_grad:
                clock.lap(Piece(kind, k), len(x), _backward, out, targets, gradient)
        if Piece("optimize", k) in wanted and weights:
            for p in weights:
                p.grad = torch.zeros_like(p)
            optimizer = make_optimizer(recipe, weights, 0.0)
            optimizer.step()  # its state is made at the first step
            clock.lap(Piece("optimize", k), 1, optimizer.step)


def _backward(out: Tensor, targets: list[Tensor], gradient: Tensor) -> object:
    return torch.autograd.grad(out, targets, gradient, retain_graph=True, allow_unused=True)


class _Nothing(nn.Module):
    """As little of a model as can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def _run_loop(recipe: Recipe, batch_size: int) -> None:
    """What steps take beside the model: the real loop on next to nothing."""
    model, count = _Nothing(), batch_size * LOOP_STEPS
    few = make_samples(np.zeros((count, 2), np.float32), np.arange(count) % 2)
    short = replace(recipe, epochs=1, batch_size=batch_size, augment="none", validate=False, part_size=0)
    fit(model, list(model.parameters()), short, 0.0, few, None, 0)
