"""The paper's table of system costs, measured here: four ways to tune each block.

One sample and one epoch, as in the paper, or a whole job with many samples. A round goes once through all
ways and blocks, so that changes in the machine's load affect all of them; the first round of one sample
is a warm-up. For a whole job, one epoch is measured and counted as often as the recipe has epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from paper.paper_way import SUBSTRINGS, by_substring, paper_way
from paper.published import paper
from tbft import Blocks, CachePolicy, Parts, Plan, Samples, find_recipe, resolve
from tbft.blocks import cut_before
from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.plan import FOLLOW, KEEP
from tbft.tuning.execution import tune_samples
from tbft.tuning.loop import FitState, Run, fit
from tbft.tuning.optimizers import Optimizer, make_optimizer
from tbft.tuning.options import Tuning
from tbft.tuning.prefix_cache import cache_prefix
from tbft.tuning.rates import AnyOptimizer
from tbft.verification.running import computing_on

COLUMNS = ("block1", "block2", "block3", "fc", "full")
WAYS = {
    "substring": "the paper's timing script: gradients of all that its words match",
    "optimizer only": "the paper's accuracy scripts: all gradients computed, only the optimizer restricted",
    "frozen": "truly frozen: only the gradients of the block computed",
    "tbft": "tbft: truly frozen, prefix cached, recipe fast",
}
#: The published rows, by resolution in px.
PUBLISHED = {32: "res32_out10", 128: "res128_out17"}
#: Samples measured of a whole job in the paper's way, by resolution; the rest is extrapolated.
MEASURED_SAMPLES = {32: 512, 128: 32}

Times = tuple[float, float]  # wall and processor seconds


@dataclass(frozen=True)
class Row:
    """One way to tune. Tuples follow :data:`COLUMNS`, with the mean of the blocks before ``full``.

    Attributes:
        cpu_seconds, wall_seconds: medians over the rounds.
        spread: range of the processor time over its median; None for a single round.
        saving_percent: processor time saved against full fine-tuning in the same way; None for full itself.
        of_paper_percent: processor time relative to full fine-tuning by the paper's accuracy scripts.
        energy_joules: None: nothing measured it.
    """

    way: str
    cpu_seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]
    spread: tuple[float, ...] | None
    saving_percent: tuple[float | None, ...]
    of_paper_percent: tuple[float, ...]
    energy_joules: None = None


def published(resolution: int) -> dict[str, list[float | None]] | None:
    """The published row for this resolution, if any: ``time_s``, ``energy_j``, ``saving_pct``."""
    found: dict[str, list[float | None]] | None = paper()["system_cost"].get(PUBLISHED.get(resolution, ""))
    return found


def arms_of(blocks: Blocks) -> dict[str, str]:
    """Column -> arm; the paper's fc is only the last layer."""
    return dict(zip(COLUMNS, (*blocks.names[:3], blocks.head, "full"), strict=True))


def one_sample(blocks: Blocks, x: Samples, rounds: int = 7) -> list[Row]:
    """One sample, one epoch: the forward pass, the backward pass, and the optimizer's step."""
    works = {
        (way, column): partial(_STEPS[way], blocks, column, arm, x.subset(slice(0, 1)))
        for way in WAYS
        for column, arm in arms_of(blocks).items()
    }
    return _rows(_measured(works, rounds, warm=True))


def whole_job(blocks: Blocks, samples: Samples, count: int, rounds: int = 1) -> list[Row]:
    """A whole adaptation to `count` samples; in the paper's way, with validation on 1.5 times as many."""
    works = {
        (way, column): partial(
            _our_job if way == "tbft" else _paper_job, blocks, way, column, arm, samples, count
        )
        for way in WAYS
        for column, arm in arms_of(blocks).items()
    }
    return _rows(_measured(works, rounds, warm=False))


def _measured(
    works: Mapping[tuple[str, str], Callable[[], Times]], rounds: int, warm: bool
) -> dict[tuple[str, str], list[Times]]:
    found: dict[tuple[str, str], list[Times]] = {key: [] for key in works}
    for i in tqdm(range(rounds + warm), "rounds", leave=False, disable=None):
        for key, work in works.items():
            times = work()
            if i or not warm:
                found[key].append(times)
    return found


def _timed(work: Callable[[], object]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


# --- one sample -----------------------------------------------------------------------------------


def _step_by_substring(blocks: Blocks, column: str, arm: str, x: Samples) -> Times:
    """As ``power.py``: Adam on all parameters, which skips those without a gradient."""
    chosen = by_substring(blocks.model, SUBSTRINGS.get(column, ("",)))
    return _step(blocks.model, chosen, torch.optim.Adam(blocks.model.parameters()), x)


def _step_of_optimizer(blocks: Blocks, column: str, arm: str, x: Samples) -> Times:
    return _step(blocks.model, list(blocks.model.parameters()), _sgd(_parameters(blocks, arm)), x)


def _step_frozen(blocks: Blocks, column: str, arm: str, x: Samples) -> Times:
    return _step(blocks.model, _parameters(blocks, arm), _sgd(_parameters(blocks, arm)), x)


def _step(model: nn.Module, chosen: Sequence[nn.Parameter], optimizer: AnyOptimizer, x: Samples) -> Times:
    inputs, labels = x.batch(slice(0, 1))
    with values_restored(model), modes_restored(model), flags_restored(model):
        model.requires_grad_(False).train()
        for p in chosen:
            p.requires_grad_(True)

        def work() -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

        return _timed(work)


def _our_step(blocks: Blocks, column: str, arm: str, x: Samples) -> Times:
    """The prefix once, then one step; one sample has no statistics to adapt to."""
    recipe = find_recipe("fast").replace(epochs=1, batch_size=1, min_steps=0, learning_rate=1e-3)
    finer, at = cut_before(blocks, arm)
    computing = computing_on(blocks.model, x)
    training = replace(recipe.training(1), computing=computing)
    with values_restored(blocks.model), blocks.only(arm, recipe.tracking.track) as parameters:

        def work() -> None:
            cached = cache_prefix(finer.prefix(at), x, None, computing) if at else x
            optimizer = make_optimizer(training.optimization, parameters)
            fit(finer.onward(at), optimizer, training, cached, None, Run())

        return _timed(work)


_STEPS: dict[str, Callable[[Blocks, str, str, Samples], Times]] = {
    "substring": _step_by_substring,
    "optimizer only": _step_of_optimizer,
    "frozen": _step_frozen,
    "tbft": _our_step,
}


def _parameters(blocks: Blocks, arm: str) -> list[nn.Parameter]:
    return [p for module in blocks.tuned_modules(arm) for p in module.parameters()]


def _sgd(parameters: Sequence[nn.Parameter]) -> Optimizer:
    return make_optimizer(find_recipe("paper").optimization, parameters)


# --- a whole job ----------------------------------------------------------------------------------


def _paper_job(blocks: Blocks, way: str, column: str, arm: str, samples: Samples, count: int) -> Times:
    """One epoch on some of the samples, with validation, extrapolated to all samples and epochs."""
    recipe = find_recipe("paper")
    some = min(count, MEASURED_SAMPLES.get(samples.inputs.shape[1], count))
    val = samples.subset(np.arange(some * 3 // 2) % len(samples))
    parts = Parts(samples.subset(np.arange(some) % len(samples)), val, val, 0, None)
    gradients = {
        "substring": by_substring(blocks.model, SUBSTRINGS.get(column, ("",))),
        "optimizer only": None,
        "frozen": _parameters(blocks, arm),
    }[way]
    once = recipe.replace(epochs=1)
    wall, cpu = _timed(lambda: paper_way(blocks, arm, once, parts, 0, gradients))
    factor = recipe.duration.epochs * count / some
    return wall * factor, cpu * factor


def _our_job(blocks: Blocks, way: str, column: str, arm: str, samples: Samples, count: int) -> Times:
    """Everything that :func:`tbft.tune` does; its first epoch is counted as often as there are epochs."""
    marks: list[Times] = []

    def mark(*_: object) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    def first_step(done: int, total: int) -> None:
        if done == 1:
            mark()
            steps.append(total)

    def first_epoch(state: FitState) -> None:
        mark()
        raise KeyboardInterrupt  # tuning then refreshes the statistics and ends

    steps: list[int] = []
    train = samples.subset(np.arange(count) % len(samples))
    plan = Plan(arm, "fast", statistics=KEEP if column == "fc" else FOLLOW)
    how = Tuning(CachePolicy(1 << 33), on_step=first_step, on_epoch=first_epoch)
    with suppress(KeyboardInterrupt):
        whole = _timed(lambda: tune_samples(blocks, plan, train, None, how))
    training = resolve(plan, blocks, count).training
    assert training is not None
    return _extrapolated(whole, marks, steps[0], training.steps_per_epoch(count))


def _extrapolated(whole: Times, marks: list[Times], steps: int, once: int) -> Times:
    """A run of one epoch of `once` steps as it would be with all steps."""
    # Between the end of the first step and the end of the epoch lie all steps but one.
    step = [(b - a) / max(1, once - 1) for a, b in zip(*marks, strict=True)]
    wall, cpu = (w + (steps - once) * s for w, s in zip(whole, step, strict=True))
    return wall, cpu


# --- the table ------------------------------------------------------------------------------------


def _rows(measured: Mapping[tuple[str, str], Sequence[Times]]) -> list[Row]:
    walls, cpus = ({key: median(t[i] for t in times) for key, times in measured.items()} for i in (0, 1))
    spreads = {
        key: (max(t[1] for t in times) - min(t[1] for t in times)) / cpus[key]
        for key, times in measured.items()
    }
    paper_full = cpus["optimizer only", "full"]
    rows = []
    for way in WAYS:
        cpu, wall, spread = (_with_mean([found[way, c] for c in COLUMNS]) for found in (cpus, walls, spreads))
        rows.append(
            Row(
                way=way,
                cpu_seconds=cpu,
                wall_seconds=wall,
                spread=spread if len(next(iter(measured.values()))) > 1 else None,
                saving_percent=(*(100 * (1 - s / cpu[-1]) for s in cpu[:-1]), None),
                of_paper_percent=tuple(100 * s / paper_full for s in cpu),
            )
        )
    return rows


def _with_mean(values: Sequence[float]) -> tuple[float, ...]:
    *blocks, full = values
    return (*blocks, sum(blocks) / len(blocks), full)
