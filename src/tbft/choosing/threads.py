"""Choose the number of threads by a quick trial on the user's model and samples.

More threads shorten a step only if its operations are large and the other cores are free. Otherwise they wait
for each other, which takes processor time, and often elapsed time as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from tbft.blocks import Blocks
from tbft.blocks.placement import device_of
from tbft.blocks.state import evaluating_alone
from tbft.data.samples import Samples
from tbft.verification.running import computing_on

#: What all threads have to gain in elapsed time, and may cost in processor time at most, against one.
MIN_SPEEDUP, MAX_COST = 1.3, 1.5
#: Steps that are timed with either number of threads.
ROUNDS = 5
#: A step of the trial takes about this long on one thread, with at most :data:`MAX_BATCH` samples. Where a
#: forward pass of one sample takes longer, that is timed instead of a step, once.
STEP_SECONDS, MAX_BATCH = 0.015, 32
#: Time of a step, in forward passes.
STEP_IN_FORWARDS = 3
#: If a first forward pass on all threads takes so much longer than on one, beyond the time to start them, the
#: cores are busy, and more of the same would only take long.
HOPELESS, START_SECONDS = 3.0, 0.03


@dataclass(frozen=True)
class Spent:
    """Time that a step takes: elapsed, and of the processor, all threads."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class ThreadChoice:
    """How many threads to use.

    Attributes:
        count: the number of threads chosen.
        note: how that came about, in a sentence.
    """

    count: int
    note: str


def choose_threads(blocks: Blocks, samples: Samples, precision: str = "auto") -> ThreadChoice:
    """Compare one thread with all that torch uses now, in steps on the first samples.

    That takes about 0.2 s, or four forward passes of one sample if these take longer, unless the machine is
    busy. A step is a forward pass in evaluation mode, and a backward pass to what can be trained. The model,
    the random state and the number of threads come back as they were; ``torch.set_num_threads`` sets it.

    Args:
        samples: labels are ignored.
        precision: as in a recipe.

    Raises:
        PlanError: an unknown precision, or one that the model does not take.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return ThreadChoice(1, "one thread: torch is given no more here")
    if (device := device_of(blocks.model)).type != "cpu":
        return ThreadChoice(threads, f"{threads} threads, without a trial: the model is on {device}")
    with evaluating_alone(blocks.model), torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            return decide(*_trial(blocks, samples, precision, threads), threads)
        finally:
            torch.set_num_threads(threads)


def decide(one: Spent, many: Spent, threads: int) -> ThreadChoice:
    """One thread, unless `threads` of them are clearly faster and cost little more processor time.

    >>> decide(Spent(0.10, 0.10), Spent(0.06, 0.12), 2).note
    '2 threads: in a trial, 2 threads took 60 % of the elapsed and 120 % of the processor time of one'
    >>> decide(Spent(0.10, 0.10), Spent(0.09, 0.18), 2).count
    1
    """
    wall = many.wall_seconds / max(one.wall_seconds, 1e-9)
    cpu = many.cpu_seconds / max(one.cpu_seconds, 1e-9)
    count = threads if wall * MIN_SPEEDUP <= 1 and cpu <= MAX_COST else 1
    chosen = "one thread" if count == 1 else f"{count} threads"
    shares = f"{100 * wall:.0f} % of the elapsed and {100 * cpu:.0f} % of the processor time of one"
    return ThreadChoice(count, f"{chosen}: in a trial, {threads} threads took {shares}")


def _trial(blocks: Blocks, samples: Samples, precision: str, threads: int) -> tuple[Spent, Spent]:
    """What a step, or a forward pass, takes on one thread and on `threads`."""
    computing = computing_on(blocks.whole, samples, precision)
    weights = [p for p in blocks.model.parameters() if p.requires_grad]

    def forward(count: int) -> torch.Tensor:
        x = computing.laid_out(samples.batch(slice(0, count))[0])
        with computing.autocast():
            out: torch.Tensor = blocks.whole(x)
        return out

    def step(count: int) -> None:
        out = forward(count)
        if weights and out.requires_grad:
            torch.autograd.grad(out.float().sum(), weights, allow_unused=True)

    timed(partial(forward, 1), 1)  # torch builds kernels on first use
    one, many = (timed(partial(forward, 1), count) for count in (1, threads))
    if many.wall_seconds > HOPELESS * one.wall_seconds + START_SECONDS:
        return one, many
    if one.wall_seconds > STEP_SECONDS:
        return one, timed(partial(forward, 1), threads)
    count = int(STEP_SECONDS / (STEP_IN_FORWARDS * max(one.wall_seconds, 1e-6)))
    return _alternating(partial(step, max(1, min(count, MAX_BATCH, len(samples)))), threads)


def _alternating(step: Callable[[], object], threads: int) -> tuple[Spent, Spent]:
    """Steps on one thread and on `threads`, in turn, after a warm-up of each.

    From one thread the shortest counts, from many the median: what disturbs a step is no reason for more.
    """
    laps = [(timed(step, 1), timed(step, threads)) for _ in range(1 + ROUNDS)][1:]
    one, many = ([*of] for of in zip(*laps, strict=True))
    return (
        Spent(min(s.wall_seconds for s in one), min(s.cpu_seconds for s in one)),
        Spent(median(s.wall_seconds for s in many), median(s.cpu_seconds for s in many)),
    )


def timed(work: Callable[[], object], threads: int) -> Spent:
    """What `work` takes on this number of threads, which stays set."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)
