"""Run the passes of a resolved plan: AdaBN, prefix cache, training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from tbft.blocks.precision import Computing
from tbft.blocks.state import write_state
from tbft.blocks.tensors import State, fingerprint, state_bytes
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError, TbftWarning, WriteError
from tbft.plan import Allowance, ResolvedPlan, SpentError, replace_plan
from tbft.plan.resolution import AdaptStatistics, CachePrefix, SolveHead, Train
from tbft.tuning.batchnorm import adapt_statistics
from tbft.tuning.closed_form import Solving, solvable_head, solve_head
from tbft.tuning.loop import EpochRecord, FitState, Run, fit
from tbft.tuning.memory_limit import MemoryLimit
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.options import Tuning
from tbft.tuning.pages import pages_kept
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix
from tbft.tuning.rates import AnyOptimizer, keep_proportions
from tbft.tuning.resume import load_run, save_run
from tbft.verification.task import CLASSIFICATION

Stopped = Literal["budget", "interrupt"]


@dataclass
class PassRunner:
    """Runs the passes of a resolved plan one after the other, and holds their results."""

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
        # The part of the model that is still to run, and its inputs.
        self.part: nn.Module = self.resolved.stages.whole
        self.inputs, self.val_inputs = self.train, self.val
        # A copy of the base is kept, and another copy is made at the end to find what changed.
        self.limit = MemoryLimit(
            self.resolved, self.computing, self.parameters, 2 * state_bytes(self.base), self.how.task.loss
        )
        self.policy, self.prefix_batch = self.how.cache or CachePolicy(), 0

    @pages_kept()
    def run(self) -> None:
        """Run the passes in order."""
        if self.resolved.start:
            self.policy, self.prefix_batch = self.limit.for_prefix(self.train, self.policy)
        for step in self.resolved.passes:
            if isinstance(step, AdaptStatistics):
                self._adapt(step)
            elif isinstance(step, CachePrefix):
                self._cache(step)
            elif isinstance(step, SolveHead):
                self._solve(step)
            elif isinstance(step, Train):
                self._fit()

    def _adapt(self, step: AdaptStatistics) -> None:
        """AdaBN on some of the samples, read batch by batch, as cached inputs may be large."""
        samples, stages = self.inputs, self.resolved.stages
        if step.end < len(stages):  # the prefix, before anything is trained
            module, batch_size = stages.prefix(step.end), min(step.batch_size, self.prefix_batch)
        elif self.training is None:
            module, batch_size = stages.whole, self.limit.for_forward(stages.whole, samples, step.batch_size)
        else:
            module, batch_size = self.part, self.training.part_size or step.batch_size
        seed = self.resolved.plan.seed
        rows = None if step.samples == len(samples) else some_rows(samples, seed, step.samples)
        # Trained weights need their statistics, even if the budget is spent.
        with nullcontext() if self.history else _stopping_when_spent(self.allowance, module):
            adapt_statistics(module, samples, batch_size, step.source_share, self.computing, rows)

    def _solve(self, step: SolveHead) -> None:
        """Compute the head in closed form; before training, only if that is possible."""
        trains = self.training is not None
        if not self.how.task.is_classification and not trains:
            raise PlanError(
                f"{step.name} computes a head for class labels, and these are other targets: tune the head "
                f"({self.resolved.blocks.head}) instead"
            )
        if trains and self.how.task != CLASSIFICATION:
            return
        head = solvable_head(self.resolved.blocks)
        # Blocks know how to call a model with several inputs; a suffix reads what was cached.
        part = self.resolved.stages if self.inputs is self.train else self.part
        with (
            _stopping_when_spent(self.allowance, head),
            suppress(*((PlanError,) if trains else ())),  # such as too little memory, which training reports
        ):
            batch_size = self.limit.for_forward(self.part, self.inputs, step.batch_size)
            how = Solving(batch_size, self.how.prototypes)
            solve_head(head, step.name, part, self.inputs, how)

    def _cache(self, step: CachePrefix) -> None:
        """Run the prefix once; the following passes read its outputs."""
        computation = self.resolved.plan.recipe.computation
        if computation.augment != "none":
            raise PlanError(
                f"augmentation {computation.augment!r} cannot be combined with a cached prefix: "
                "take a recipe without one of the two"
            )
        prefix, batch_size = self.resolved.stages.prefix(step.end), min(step.batch_size, self.prefix_batch)

        def cached(samples: Samples) -> Samples:
            return cache_prefix(prefix, samples, self.policy, self.computing, batch_size)

        try:
            with _stopping_when_spent(self.allowance, prefix):
                train, val = cached(self.train), None if self.val is None else cached(self.val)
        except WriteError as error:  # tuning also works without a cache
            warnings.warn(f"{error}; the frozen prefix is run in every epoch", TbftWarning, stacklevel=2)
            return
        self.inputs, self.val_inputs = train, val
        self.part = self.resolved.stages.onward(step.end)

    def _fit(self) -> None:
        """Run the training loop; if it is stopped after an epoch, what was learned by then is kept."""
        assert self.training is not None
        self.training, self.part = self.limit.for_steps(self.training, self.part, self.inputs)
        optimizer, path = self._make_optimizer(), self.how.resume_path
        identity = {**self.identity, "optimizer": repr(optimizer), "cache": str(self.inputs.inputs.dtype)}
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
            state = fit(self.part, optimizer, self.training, self.inputs, self.val_inputs, run)
        except (KeyboardInterrupt, SpentError) as stop:
            if latest is None:
                raise
            state = latest
            self.stopped = "interrupt" if isinstance(stop, KeyboardInterrupt) else "budget"
        write_state(self.part, state.best)
        self.history, self.best_epoch = tuple(state.history), state.best_epoch

    def _make_optimizer(self) -> AnyOptimizer:
        """The recipe's optimizer, or one from the caller's factory."""
        assert self.training is not None
        optimization = self.training.optimization
        optimizer: AnyOptimizer
        if self.how.optimizer is not None:
            optimizer = self.how.optimizer(self.parameters, optimization.learning_rate)
        else:
            optimizer = make_optimizer(optimization, self._groups())
        keep_proportions(optimizer, optimization.learning_rate)
        return optimizer

    def _groups(self) -> list[dict[str, Any]]:
        """Parameter groups: in a joined arm, parameters in the rear have the rear's learning rate."""
        assert self.training is not None
        if self.training.front_rate_factor != 1:
            return self._groups_by_depth(self.training.front_rate_factor)
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

    def _groups_by_depth(self, front: float) -> list[dict[str, Any]]:
        """A group for each block, with learning rates that rise from the first to the last."""
        blocks, wanted = self.resolved.blocks, {id(p) for p in self.parameters}
        named, last = dict(blocks.model.named_parameters()), max(len(blocks) - 1, 1)
        groups = [
            {
                "params": [named[k] for k in block.keys if k in named and id(named[k]) in wanted],
                "rate_factor": front ** (1 - block.index / last),
            }
            for block in blocks.infos
        ]
        return [group for group in groups if group["params"]]

    def _identity(self) -> dict[str, object]:
        """What two calls must have in common for one to resume the other."""
        # Time and energy are left out, as a stopped run has spent some of them, and so is the length of the
        # schedule that fits: the run that resumes completes the one that was begun.
        plan = self.resolved.plan
        budget = replace(plan.budget, cpu_seconds=None, joules=None)
        whole = replace_plan(plan, recipe=plan.recipe.replace(length=1.0), budget=budget)
        data = [digest(self.train), None if self.val is None else digest(self.val)]
        base, cuts = fingerprint(self.base), list(self.resolved.blocks.cuts)
        return {"plan": asdict(whole), "base": base, "cuts": cuts, "data": data}


@contextmanager
def _stopping_when_spent(allowance: Allowance, module: nn.Module) -> Iterator[None]:
    """Raise SpentError at the next call of the module when the budget is spent."""
    handle = module.register_forward_pre_hook(allowance.check)
    try:
        yield
    finally:
        handle.remove()


def some_rows(samples: Samples, seed: int, count: int) -> npt.NDArray[np.int64]:
    """Positions of `count` of the samples, drawn at random, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(len(samples))[:count])
