"""Carry out a plan: the prefix adapted and cached, the arm trained, and the model given back untouched.

The passes and their order are settled by :func:`tbft.plan.resolve`; the training loop is in ``loop.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks, check_gradients_reach, check_stages
from tbft.blocks.precision import Computing
from tbft.blocks.state import clone_state, values_restored, write_state
from tbft.blocks.tensors import State, fingerprint, state_bytes, tensor_bytes
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError, TbftWarning, WriteError
from tbft.plan import Allowance, Plan, ResolvedPlan, SpentError, Statistics, Training, replace_plan, resolve
from tbft.plan.resolution import PREFIX_BATCH, AdaptStatistics, CachePrefix, ChooseShare, Train
from tbft.tuning.batchnorm import adapt_statistics, choose_source_share
from tbft.tuning.checks import check_training, explained_batch_norm
from tbft.tuning.loop import (
    EpochRecord,
    FitState,
    OnEpoch,
    OnStep,
    Run,
    fit,
    keep_proportions,
    make_optimizer,
)
from tbft.tuning.memory_limit import MIN_BATCH, MemoryLimit
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix
from tbft.tuning.resume import load_run, save_run
from tbft.verification.evaluation import check_fits, computing_on
from tbft.verification.task import CLASSIFICATION, Task

#: (parameters, learning rate) -> optimizer; in place of the recipe's.
MakeOptimizer = Callable[[Sequence[nn.Parameter], float], torch.optim.Optimizer]
Stopped = Literal["budget", "interrupt"]


@dataclass(frozen=True, eq=False)
class Tuned:
    """The outcome of tuning: the tensors that changed, and the learning curve.

    Attributes:
        plan: that was carried out; its statistics are those that ``auto`` found.
        changed: state-dict key -> tuned value; only what differs from the base.
        best_epoch: the epoch whose state was kept; None where nothing was trained.
        stopped: what ended it early: a spent ``budget``, or an ``interrupt`` (Ctrl-C); what had been learned
            by then was kept. None: it ran to its end.
        training: every number of the training; None where nothing was trained.
        parameter_count: trainable numbers in the arm.
    """

    plan: Plan
    changed: Mapping[str, Tensor]
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int | None = None
    stopped: Stopped | None = None
    training: Training | None = None
    parameter_count: int = 0


@dataclass(frozen=True)
class Tuning:
    """How tuning is done, beside the plan.

    Attributes:
        cache: where the outputs of the frozen prefix are kept, for recipes that cache them.
        optimizer: makes one for the parameters and the learning rate, in place of the recipe's. The rates
            of its groups follow the recipe's schedule in proportion.
        resume_path: written after every epoch, for the caller to remove; if it is there already,
            tuning resumes from it and ends with the same bits as if it had never stopped.
        on_step, on_epoch: told of the progress.
        task: whose loss is lowered.
    """

    cache: CachePolicy | None = None
    optimizer: MakeOptimizer | None = None
    resume_path: Path | None = None
    on_step: OnStep | None = None
    on_epoch: OnEpoch | None = None
    task: Task = CLASSIFICATION


def tune_samples(
    blocks: Blocks,
    plan: Plan,
    train: Samples,
    val: Samples | None = None,
    how: Tuning | None = None,
    allowance: Allowance | None = None,
) -> Tuned:
    """Tune one arm of a model and return what changed; the model itself comes back as it was.

    Ctrl-C ends the training, and the best so far is returned, if an epoch was done; so does a spent
    budget of processor time or energy.

    Args:
        train: labeled samples to tune on.
        val: held-out samples that choose the epoch to keep; needed where the recipe validates.
        allowance: the plan's budget with its clock already running; by default it starts now.

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    how, allowance = how or Tuning(), allowance or Allowance(plan.budget)
    resolved = resolve(plan, blocks, len(train), 0 if val is None else len(val))
    if not resolved.passes:
        return Tuned(plan, {})
    check_fits(blocks.model, train, how.task)
    if resolved.training is not None:
        check_training(train, val, plan.recipe, resolved.training)
    _check_model(resolved, train)
    wanted = plan.recipe.computation
    computing = computing_on(blocks.model, train, wanted.precision, wanted.channels_last)
    if isinstance(resolved.passes[0], ChooseShare):
        plan = replace_plan(
            plan, statistics=_chosen_statistics(blocks, plan, train, resolved.passes[0], how.task)
        )
        resolved = resolve(plan, blocks, len(train), 0 if val is None else len(val))
    with (
        values_restored(blocks.model) as base,
        torch.random.fork_rng(devices=computing.random_devices),
        _trainable(resolved) as parameters,
        explained_batch_norm(len(train)),
    ):
        torch.manual_seed(plan.seed)  # for dropout and the like
        work = _Work(resolved, computing, parameters, base, how, allowance, train, val)
        try:
            work.run()
        except SpentError:  # before anything was learned
            return Tuned(plan, {}, stopped="budget", training=work.training)
        return Tuned(
            plan,
            changed(base, clone_state(blocks.model)),
            work.history,
            work.best_epoch,
            work.stopped,
            work.training,
            sum(p.numel() for p in parameters),
        )


@dataclass
class _Work:
    """A resolved plan on its way."""

    resolved: ResolvedPlan
    computing: Computing
    parameters: Sequence[nn.Parameter]
    base: State
    how: Tuning
    allowance: Allowance
    train: Samples
    val: Samples | None
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int | None = None
    stopped: Stopped | None = None

    def __post_init__(self) -> None:
        training = self.resolved.training
        self.training = None if training is None else replace(training, computing=self.computing)
        if training is None or not training.validate:
            self.val = None
        self.identity = self._identity() if self.how.resume_path is not None else {}
        # What is left to run, and the samples as they reach it.
        self.part: nn.Module = self.resolved.stages.whole
        self.entering, self.entering_val = self.train, self.val
        # The base is saved before, and copied after to tell what changed.
        self.limit = MemoryLimit(
            self.resolved, self.computing, self.parameters, 2 * state_bytes(self.base), self.how.task.loss
        )
        self.policy, self.prefix_batch = self.how.cache or CachePolicy(), 0

    def run(self) -> None:
        """Run the passes in order."""
        if self.resolved.start:
            self.policy, self.prefix_batch = self.limit.for_prefix(self.train, self.policy)
        for one in self.resolved.passes:
            if isinstance(one, AdaptStatistics):
                self._adapt(one)
            elif isinstance(one, CachePrefix):
                self._cache(one)
            elif isinstance(one, Train):
                self._fit()

    def _adapt(self, one: AdaptStatistics) -> None:
        """AdaBN, on some of the samples: read batch by batch, as what is cached may be large."""
        samples, stages = self.entering, self.resolved.stages
        if one.end < len(stages):  # the prefix, before anything is trained
            module, batch_size = stages.prefix(one.end), min(one.batch_size, self.prefix_batch)
        elif self.training is None:
            module, batch_size = stages.whole, self.limit.for_forward(samples, one.batch_size)
        else:
            module, batch_size = self.part, self.training.part_size or one.batch_size
        at = None if one.samples == len(samples) else _some(samples, self.resolved.plan.seed, one.samples)
        # What was trained needs its statistics, whatever the clock says.
        with nullcontext() if self.history else _heeding(self.allowance, module):
            adapt_statistics(module, samples, batch_size, one.source_share, self.computing, at)

    def _cache(self, one: CachePrefix) -> None:
        """Run the prefix once; what follows reads its outputs."""
        computation = self.resolved.plan.recipe.computation
        if computation.augment != "none":
            raise PlanError(
                f"augmentation {computation.augment!r} changes what a cached prefix would give: "
                "take a recipe without one of the two"
            )
        prefix, batch_size = self.resolved.stages.prefix(one.end), min(one.batch_size, self.prefix_batch)

        def cached(samples: Samples) -> Samples:
            return cache_prefix(prefix, samples, self.policy, self.computing, batch_size)

        try:
            with _heeding(self.allowance, prefix):
                train, val = cached(self.train), None if self.val is None else cached(self.val)
        except WriteError as error:  # the work can do without
            warnings.warn(f"{error}; the frozen prefix is run in every epoch", TbftWarning, stacklevel=2)
            return
        self.entering, self.entering_val = train, val
        self.part = self.resolved.stages.onward(one.end)

    def _fit(self) -> None:
        """The training loop; what it had learned is kept where it is stopped after an epoch."""
        assert self.training is not None
        self.training, self.part = self.limit.for_steps(self.training, self.part, self.entering)
        optimizer, path = self._make_optimizer(), self.how.resume_path
        identity = {**self.identity, "optimizer": repr(optimizer), "cache": str(self.entering.inputs.dtype)}
        latest = load_run(path, identity, self.part, optimizer)

        def after_epoch(state: FitState) -> None:
            nonlocal latest
            latest = state
            save_run(state, path, identity)
            if self.how.on_epoch is not None:
                self.how.on_epoch(state)

        run = Run(
            self.resolved.plan.seed,
            latest,
            self.allowance.watching(self.how.on_step),
            after_epoch,
            self.how.task,
        )
        try:
            state = fit(self.part, optimizer, self.training, self.entering, self.entering_val, run)
        except (KeyboardInterrupt, SpentError) as stop:
            if latest is None:
                raise
            state = latest
            self.stopped = "interrupt" if isinstance(stop, KeyboardInterrupt) else "budget"
        write_state(self.part, state.best)
        self.history, self.best_epoch = tuple(state.history), state.best_epoch

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """The recipe's, or that of the caller's factory."""
        assert self.training is not None
        optimization = self.training.optimization
        if self.how.optimizer is not None:
            made = self.how.optimizer(self.parameters, optimization.learning_rate)
        else:
            made = make_optimizer(optimization, self._groups())
        keep_proportions(made, optimization.learning_rate)
        return made

    def _groups(self) -> list[dict[str, Any]]:
        """What a joined arm has in the rear learns at the rear's rate, the rest at its own."""
        assert self.training is not None
        blocks, arm = self.resolved.blocks, self.resolved.plan.arm
        rear = set(blocks.infos[-1].keys) if arm.is_joined else set()
        ids = {id(p) for name, p in blocks.model.named_parameters() if name in rear}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if id(p) not in ids]},
            {
                "params": [p for p in self.parameters if id(p) in ids],
                "rate_factor": self.training.rear_rate_factor,
            },
        ]
        return [group for group in groups if group["params"]]

    def _identity(self) -> dict[str, object]:
        """What two calls must share for one to resume where the other stopped."""
        # A stopped run has spent some of its budget.
        budget = replace(self.resolved.plan.budget, cpu_seconds=None, joules=None)
        plan = {**asdict(self.resolved.plan), "budget": asdict(budget)}
        data = [digest(self.train), None if self.val is None else digest(self.val)]
        base, cuts = fingerprint(self.base), list(self.resolved.blocks.cuts)
        return {"plan": plan, "base": base, "cuts": cuts, "data": data}


def _check_model(resolved: ResolvedPlan, train: Samples) -> None:
    """Refuse stages that are not the model, and an arm that no gradient reaches."""
    in_short = resolved.plan.budget.peak_bytes is not None  # comparing is not to take more than tuning does
    x = train.batch(slice(0, MIN_BATCH if in_short else PREFIX_BATCH))[0]
    check_stages(resolved.stages, x, with_gradients=not in_short)
    if not in_short:
        check_gradients_reach(resolved.blocks, resolved.plan.arm, x)


@contextmanager
def _trainable(resolved: ResolvedPlan) -> Iterator[list[nn.Parameter]]:
    """The plan's parameters made trainable, and the BatchNorms that it names made to track."""
    if resolved.training is None:
        yield []
        return
    with resolved.blocks.only(resolved.plan.arm, resolved.track) as parameters:
        if not parameters:
            raise PlanError(
                f"{resolved.plan.arm.name!r} has no parameters to tune, or all of them are frozen: choose "
                "another arm, or set requires_grad where it may be tuned"
            )
        if resolved.plan.recipe.tracking.refresh:
            resolved.stages.prefix(resolved.start).eval()  # its statistics are those of one AdaBN pass
        yield parameters


@contextmanager
def _heeding(allowance: Allowance, module: nn.Module) -> Iterator[None]:
    """End what runs the module batch by batch when the budget is spent."""
    handle = module.register_forward_pre_hook(allowance.check)
    try:
        yield
    finally:
        handle.remove()


def _chosen_statistics(
    blocks: Blocks, plan: Plan, train: Samples, one: ChooseShare, task: Task
) -> Statistics:
    few = train.subset(_some(train, plan.seed, one.samples))
    batch_size = MIN_BATCH if plan.budget.peak_bytes else one.batch_size
    return Statistics.of(choose_source_share(blocks.model, few, batch_size, task=task))


def _some(samples: Samples, seed: int, count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(len(samples))[:count])


def changed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> State:
    """The tensors of `tuned` whose bytes differ from `base` (-0.0 differs from 0.0 here)."""
    return {k: v for k, v in tuned.items() if tensor_bytes(v) != tensor_bytes(base[k])}
