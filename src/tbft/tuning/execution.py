"""Carry out a plan: adapt and cache the prefix, train the arm, and restore the model.

:func:`tbft.plan.resolve` settles the passes and their order, ``passes.py`` runs them, and the training loop
is in ``loop.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tbft.blocks import Blocks, check_gradients_reach, check_stages
from tbft.blocks.state import clone_state, values_restored
from tbft.blocks.tensors import State, tensor_bytes
from tbft.data.samples import Samples
from tbft.errors import PlanError
from tbft.plan import Allowance, Plan, ResolvedPlan, SpentError, Statistics, Training, replace_plan, resolve
from tbft.plan.resolution import PREFIX_BATCH, ChooseShare
from tbft.tuning.batchnorm import choose_source_share
from tbft.tuning.checks import check_training, explained_batch_norm
from tbft.tuning.loop import EpochRecord
from tbft.tuning.memory_limit import MIN_BATCH
from tbft.tuning.options import Tuning
from tbft.tuning.passes import PassRunner, Stopped, some_rows
from tbft.verification.compatibility import check_fits, check_trainable
from tbft.verification.running import computing_on
from tbft.verification.task import Task


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of tuning: the tensors that changed, and the learning curve.

    Attributes:
        plan: the plan that was carried out, with the statistics that ``auto`` chose.
        changed: state-dict key -> tuned value, for all tensors that differ from the base.
        history: the learning curve.
        best_epoch: the epoch whose state was kept; None if nothing was trained.
        stopped: why tuning ended early: ``budget`` (spent) or ``interrupt`` (Ctrl-C); what had been learned
            by then was kept. None: it ran to the end.
        training: the settled numbers of the training; None if nothing was trained.
        parameter_count: number of trainable parameters in the arm.
    """

    plan: Plan
    changed: Mapping[str, Tensor]
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int | None = None
    stopped: Stopped | None = None
    training: Training | None = None
    parameter_count: int = 0


@torch.enable_grad()  # also if the caller has switched gradients off
def tune_samples(
    blocks: Blocks,
    plan: Plan,
    train: Samples,
    val: Samples | None = None,
    how: Tuning | None = None,
    allowance: Allowance | None = None,
) -> Tuned:
    """Tune one arm of a model and return what changed; the model itself is restored.

    Ctrl-C or a spent budget of processor time or energy ends the training; if an epoch was completed, the
    best state so far is returned.

    Args:
        train: labeled samples to tune on.
        val: held-out samples that choose the epoch to keep, for recipes that validate.
        how: options apart from the plan.
        allowance: the plan's budget with its clock already running; None: the clock starts now.

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    how, allowance = how or Tuning(), allowance or Allowance(plan.budget)
    resolved = resolve(plan, blocks, len(train), 0 if val is None else len(val))
    if not resolved.passes:
        return Tuned(plan, {})
    if torch.is_inference_mode_enabled():
        raise PlanError("nothing can be tuned inside torch.inference_mode(): call tbft outside of it")
    check_fits(blocks, train, how.task)
    if resolved.training is not None:
        check_training(train, val, plan.recipe, resolved.training)
        check_trainable(blocks, train, how.task)
    _check_model(resolved, train)
    wanted = plan.recipe.computation
    computing = computing_on(blocks.whole, train, wanted.precision, wanted.channels_last)
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
        runner = PassRunner(resolved, computing, parameters, base, how, allowance, train, val)
        try:
            runner.run()
        except SpentError:  # before anything was learned
            return Tuned(plan, {}, stopped="budget", training=runner.training)
        return Tuned(
            plan,
            changed(base, blended(base, clone_state(blocks.model), plan.recipe.strength)),
            runner.history,
            runner.best_epoch,
            runner.stopped,
            runner.training,
            sum(p.numel() for p in parameters),
        )


def _check_model(resolved: ResolvedPlan, train: Samples) -> None:
    """Refuse stages that do not reproduce the model, and an arm that gradients do not reach."""
    # With a memory budget, the check must not take more memory than tuning.
    limited = resolved.plan.budget.peak_bytes is not None
    x = train.batch(slice(0, MIN_BATCH if limited else PREFIX_BATCH))[0]
    check_stages(resolved.stages, x, with_gradients=not limited)
    if not limited:
        check_gradients_reach(resolved.blocks, resolved.plan.arm, x)


@contextmanager
def _trainable(resolved: ResolvedPlan) -> Iterator[list[nn.Parameter]]:
    """Make the plan's parameters trainable, and let its BatchNorms track."""
    if resolved.training is None:
        yield []
        return
    with resolved.only() as parameters:
        if not parameters:
            raise PlanError(
                f"{resolved.plan.arm.name!r} has no parameters to tune, or all of them are frozen: choose "
                "another arm, or set requires_grad on those that may be tuned"
            )
        if resolved.plan.recipe.tracking.refresh:
            resolved.stages.prefix(resolved.start).eval()  # its statistics come from one AdaBN pass
        yield parameters


def _chosen_statistics(
    blocks: Blocks, plan: Plan, train: Samples, step: ChooseShare, task: Task
) -> Statistics:
    few = train.subset(some_rows(train, plan.seed, step.samples))
    batch_size = MIN_BATCH if plan.budget.peak_bytes else step.batch_size
    return Statistics.of(choose_source_share(blocks.whole, few, batch_size, task=task))


def blended(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], strength: float) -> State:
    """The state at `strength` on the line from the base to the tuned one; integers are the tuned ones."""
    return {
        k: base[k].lerp(v, strength) if strength < 1 and v.is_floating_point() else v
        for k, v in tuned.items()
    }


def changed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> State:
    """The tensors of `tuned` whose bytes differ from `base` (-0.0 differs from 0.0 here)."""
    return {k: v for k, v in tuned.items() if tensor_bytes(v) != tensor_bytes(base[k])}
