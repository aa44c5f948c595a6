"""Tuning of one arm: the prefix adapted and cached, the arm trained, and the model given back untouched.

The training loop itself is in ``fitting.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks, cut_before
from tbft.blocks.state import batch_norms, clone_state, values_restored
from tbft.blocks.tensors import State, fingerprint, state_bytes, tensor_bytes
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError
from tbft.metering.profile import Profile
from tbft.plan import Budget, Plan, Recipe
from tbft.tuning.batchnorm import adapt_statistics, choose_source_share
from tbft.tuning.checkpointing import recomputed
from tbft.tuning.loop import (
    EpochRecord,
    FitState,
    OnEpoch,
    OnStep,
    check_training,
    explained_batch_norm,
    fit,
    keep_proportions,
    make_optimizer,
)
from tbft.tuning.memory_limit import LEAST_BATCH, MemoryLimit
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix
from tbft.tuning.resume import load_run, save_run
from tbft.verification.evaluation import check_fits

#: AdaBN in a plan that refreshes reads at most so many samples; more would cost more than they change.
STATISTICS_SAMPLES = 256

#: Of a budget of processor time, training takes at most so much; the rest is for the statistics after it.
SPENT_SHARE = 0.95

#: (parameters, learning rate) -> optimizer; in place of the recipe's.
MakeOptimizer = Callable[[Sequence[nn.Parameter], float], torch.optim.Optimizer]


@dataclass(frozen=True, eq=False)
class Tuned:
    """The outcome of tuning: the tensors that changed, and the learning curve."""

    plan: Plan
    changed: Mapping[str, Tensor]  # state-dict key -> tuned value; only what differs from the base
    history: tuple[EpochRecord, ...]
    best_epoch: int | None  # the epoch whose state was kept; None where nothing was trained
    interrupted: bool = False  # Ctrl-C came; what had been learned by then was kept


def tune(
    blocks: Blocks,
    plan: Plan,
    train: Samples,
    val: Samples | None = None,
    *,
    cache: CachePolicy | None = None,
    optimizer: MakeOptimizer | None = None,
    resume_path: Path | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    profile: Profile | None = None,
) -> Tuned:
    """Tune one arm of a model and return what changed; the model itself comes back as it was.

    Ctrl-C ends the training, and the best so far is returned, if an epoch was done; so does a budget of
    processor time or energy that is spent.

    Args:
        blocks: the model, split.
        plan: arm, recipe and seed.
        train: labeled samples to tune on.
        val: held-out samples that choose the epoch to keep; needed where the recipe validates.
        cache: where the outputs of the frozen prefix are kept, for recipes that cache them.
        optimizer: makes one for the parameters and the learning rate, in place of the recipe's. The rates
            of its groups follow the recipe's schedule in proportion.
        resume_path: written after every epoch, for the caller to remove; if it is there already,
            tuning goes on from it and ends with the same bits as if it had never stopped.
        profile: of this board, by which a budget in joules is watched.

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    plan = plan.for_samples(len(train))
    spent = partial(_spent_share, plan.budget, profile, time.perf_counter(), time.process_time())
    model, recipe = blocks.model, plan.recipe
    block = blocks.block_of(plan.arm)  # raises on an unknown arm
    if plan.arm == "none":
        return Tuned(plan, {}, (), None)
    check_fits(model, train)
    if plan.source_share == "auto":
        few = train.subset(_some(train, plan.seed))
        batch_size = LEAST_BATCH if plan.budget.peak_bytes else plan.recipe.for_samples(len(few)).batch_size
        share = choose_source_share(model, few, batch_size)
        plan = replace(plan, source_share=share)
    if plan.arm == "adabn":
        with values_restored(model) as base, explained_batch_norm(len(train)):
            batch_size = MemoryLimit(plan, (), 2 * state_bytes(base)).for_forward(model, train)
            try:
                with _heeding(spent, model):
                    share = plan.share(len(train))
                    adapt_statistics(model, train, batch_size, share, recipe.precision)
            except _SpentError:
                return Tuned(plan, {}, (), None, interrupted=True)
            return Tuned(plan, changed(base, clone_state(model)), (), None)
    check_training(train, val, recipe)
    if not recipe.validate:
        val = None
    finer, at = cut_before(blocks, plan.arm)
    rear = block is not None and block.index == len(blocks) - 1
    middle = block is not None and block.index > 0 and not rear
    recipe = recipe.for_samples(len(train), middle, rear)
    rate = recipe.rate(rear)
    with (
        values_restored(model) as base,
        torch.random.fork_rng(devices=[]),
        _trainable(blocks, plan, finer.prefix(at)) as parameters,
        explained_batch_norm(len(train)),
    ):
        run = _identity(base, blocks, plan, train, val)
        latest: FitState | None = None
        torch.manual_seed(plan.seed)  # for dropout and the like
        # The base is saved before, and copied after to tell what changed.
        limit = MemoryLimit(plan, parameters, spent_bytes=2 * state_bytes(base))
        try:
            with _heeding(spent, finer.block(0)):
                part, train, val = _after_prefix(finer, at, plan, train, val, cache or CachePolicy(), limit)
        except _SpentError:
            return Tuned(plan, {}, (), None, interrupted=True)
        recipe, part = limit.for_steps(recipe, part, lambda: recomputed(finer, at), train)

        def after_epoch(state: FitState) -> None:
            nonlocal latest
            latest = state
            save_run(state, resume_path, run)
            if on_epoch is not None:
                on_epoch(state)

        groups = _groups(blocks, plan.arm, parameters, recipe)
        made = make_optimizer(recipe, groups, rate) if optimizer is None else optimizer(parameters, rate)
        keep_proportions(made, rate)
        run |= {"optimizer": repr(made), "cache": str(train.inputs.dtype)}
        latest = load_run(resume_path, run)
        watched = _within(spent, on_step)
        interrupted = False
        try:
            state = fit(
                part, parameters, recipe, rate, train, val, plan.seed, watched, after_epoch, latest, made
            )
        except (KeyboardInterrupt, _SpentError) as stop:
            if latest is None and isinstance(stop, _SpentError):
                return Tuned(plan, {}, (), None, interrupted=True)
            if latest is None:
                raise
            state, interrupted = latest, True
        part.load_state_dict(state.best)
        if plan.adapts and recipe.refresh:
            _refresh(part, train, plan, recipe.part_size or recipe.batch_size)
        tuned = changed(base, clone_state(model))
        return Tuned(plan, tuned, tuple(state.history), state.best_epoch, interrupted)


class _SpentError(Exception):
    """The budget of processor time, or of energy, is spent."""


def _spent_share(budget: Budget, profile: Profile | None, wall_start: float, cpu_start: float) -> float:
    """How much of its budget of processor time or energy a run has spent; 1 is all."""
    wall, cpu = time.perf_counter() - wall_start, time.process_time() - cpu_start
    shares = [0.0]
    if budget.cpu_seconds is not None:
        shares.append(cpu / budget.cpu_seconds)
    if budget.joules is not None and profile is not None:
        shares.append(profile.estimate(wall, cpu) / budget.joules)
    return max(shares)


@contextmanager
def _heeding(spent: Callable[[], float], module: nn.Module) -> Iterator[None]:
    """Ends what runs the module batch by batch when a budget is spent."""

    def check(*_: Any) -> None:
        if spent() > SPENT_SHARE:
            raise _SpentError

    handle = module.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _within(spent: Callable[[], float], on_step: OnStep | None) -> OnStep:
    """`on_step`, that also ends the training shortly before a budget is spent; what follows takes little."""

    def watched(done: int, total: int) -> None:
        if on_step is not None:
            on_step(done, total)
        if done < total and spent() * (1 + 1 / done) > SPENT_SHARE:
            raise _SpentError

    return watched


@contextmanager
def _trainable(blocks: Blocks, plan: Plan, prefix: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The plan's parameters made trainable, and the BatchNorms that it names made to track."""
    with blocks.only(plan.arm, plan.recipe.track if plan.adapts else "none") as parameters:
        if not parameters:
            raise PlanError(f"{plan.arm!r} has no parameters to tune; choose another arm")
        if plan.recipe.refresh:
            prefix.eval()  # its statistics are those of one AdaBN pass
        yield parameters


def _groups(
    blocks: Blocks, arm: str, parameters: Sequence[nn.Parameter], recipe: Recipe
) -> list[dict[str, Any]]:
    """What a joined arm has in the rear learns at the rear's rate, the rest at its own."""
    rear = set(blocks.infos[-1].keys) if "+" in arm else set()
    ids = {id(p) for name, p in blocks.model.named_parameters() if name in rear}
    factor = recipe.rate(rear=True) / recipe.rate(rear=False)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) not in ids]},
        {"params": [p for p in parameters if id(p) in ids], "rate_factor": factor},
    ]
    return [group for group in groups if group["params"]]


def _after_prefix(
    blocks: Blocks,
    at: int,
    plan: Plan,
    train: Samples,
    val: Samples | None,
    policy: CachePolicy,
    limit: MemoryLimit,
) -> tuple[nn.Module, Samples, Samples | None]:
    """What is left to train, and the samples as they reach it: the prefix adapted, and run once."""
    recipe = plan.recipe
    if at == 0:
        return blocks.model, train, val
    prefix, rest = blocks.prefix(at), blocks.onward(at)
    policy, batch_size = limit.for_prefix(prefix, rest, lambda: recomputed(blocks, at), train, policy)
    if plan.adapts and recipe.refresh and batch_norms(prefix):
        _adapt(prefix, train, plan, batch_size)
    if not recipe.cache:
        return blocks.model, train, val
    if recipe.augment != "none":
        raise PlanError(
            f"augmentation {recipe.augment!r} changes what a cached prefix would give: "
            "take a recipe without one of the two"
        )
    train = cache_prefix(prefix, train, policy, recipe.precision, batch_size)
    if val is not None:
        val = cache_prefix(prefix, val, policy, recipe.precision, batch_size)
    return rest, train, val


def _refresh(part: nn.Module, train: Samples, plan: Plan, batch_size: int) -> None:
    """AdaBN of what was trained and what follows it.

    The base's statistics have no share in it: they belong to the weights from before.
    """
    if batch_norms(part):
        _adapt(part, train, plan, batch_size, source_share=0.0)


def _adapt(
    module: nn.Module, samples: Samples, plan: Plan, batch_size: int, source_share: float | None = None
) -> None:
    """AdaBN by some of the samples, with the plan's share of the source statistics or another."""
    at = _some(samples, plan.seed)  # read batch by batch: what is cached may be large
    share = plan.share(len(at)) if source_share is None else source_share
    adapt_statistics(module, samples, batch_size, share, plan.recipe.precision, at)


def _some(samples: Samples, seed: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(len(samples))[:STATISTICS_SAMPLES])


def changed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> State:
    """The tensors of `tuned` whose bytes differ from `base` (-0.0 differs from 0.0 here)."""
    return {k: v for k, v in tuned.items() if tensor_bytes(v) != tensor_bytes(base[k])}


def _identity(
    base: State, blocks: Blocks, plan: Plan, train: Samples, val: Samples | None
) -> dict[str, object]:
    """What two calls must share for one to go on where the other stopped."""
    data = [digest(train), None if val is None else digest(val)]
    # A stopped run has spent some of it.
    plan = replace(plan, budget=replace(plan.budget, cpu_seconds=None, joules=None))
    return {"plan": asdict(plan), "base": fingerprint(base), "cuts": list(blocks.cuts), "data": data}
