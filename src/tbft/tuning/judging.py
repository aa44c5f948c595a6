"""Tune, and judge the result on samples that it was not tuned on: held out, or fold by fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from tbft.blocks import Blocks
from tbft.data.origin import origin_of
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.errors import DataError, PlanError
from tbft.plan import Allowance, Plan
from tbft.tuning.execution import Tuned, tune_samples
from tbft.tuning.memory_limit import forward_batch
from tbft.tuning.options import Tuning
from tbft.tuning.passes import Stopped
from tbft.verification.acceptance import Acceptance
from tbft.verification.comparison import Outputs, Rule, accept, changed_to, run_both
from tbft.verification.compatibility import check_fits
from tbft.verification.running import BATCH_SIZE, predict


@dataclass(frozen=True, eq=False)
class Judged:
    """The result of tuning, and whether to keep it.

    Attributes:
        tuned: without changes if it was not accepted.
        outputs: of base and tuned models on the samples that decided; None if nothing did.
        acceptance: the decision; None if nothing was tuned, or no samples decide.
    """

    tuned: Tuned
    outputs: Outputs | None = None
    acceptance: Acceptance | None = None


def tune_and_judge(
    blocks: Blocks, plan: Plan, parts: Parts, how: Tuning, allowance: Allowance, rule: Rule
) -> Judged:
    """Carry out a plan on the training samples, and keep the result if it is accepted.

    With folds, these are judged first: a plan that they reject is not carried out on all samples.

    Args:
        allowance: the plan's budget with its clock already running.
        rule: how to decide.

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    validates, origin = plan.recipe.duration.validate, origin_of(parts.train, parts.manner)
    if parts.folds is not None and plan.arm.name != "none" and not validates:
        return _judged_by_folds(blocks, plan, parts, how, allowance, replace(rule, origin=origin))
    tuned = tune_samples(blocks, plan, parts.train, parts.val if validates else None, how, allowance)
    if not tuned.changed or not len(parts.val) or validates:
        return Judged(tuned)
    if origin != "random":
        rule = replace(rule, expected=None)
    outputs = run_both(blocks, tuned.changed, parts.val, forward_batch(allowance, BATCH_SIZE))
    acceptance = accept(outputs, how.task, rule)
    return Judged(tuned if acceptance.accepted else replace(tuned, changed={}), outputs, acceptance)


def _judged_by_folds(
    blocks: Blocks, plan: Plan, parts: Parts, how: Tuning, allowance: Allowance, rule: Rule
) -> Judged:
    outputs = cross_fit(blocks, plan, parts, how, allowance)
    if not isinstance(outputs, Outputs):
        return Judged(Tuned(plan, {}, stopped=outputs))
    acceptance = replace(accept(outputs, how.task, rule), cross_fitted=True)
    if not acceptance.accepted:
        count = sum(p.numel() for p in blocks.trainable(plan.arm))
        return Judged(Tuned(plan, {}, parameter_count=count), outputs, acceptance)
    return Judged(tune_samples(blocks, plan, parts.train, None, how, allowance), outputs, acceptance)


def cross_fit(
    blocks: Blocks, plan: Plan, parts: Parts, how: Tuning, allowance: Allowance
) -> Outputs | Stopped:
    """Tune once per fold on all other training samples, and run that model on the fold; it is restored.

    Where a plan cannot be carried out without a fold, as that has the only sample of a class, the outputs
    are the base's: nothing counts as gained there.

    Returns:
        outputs of the base, and of the model that was not tuned on the sample, for all samples that are
        judged; or why it was stopped.

    Raises:
        DataError: the plan cannot be carried out without any of the folds.
    """
    assert parts.folds is not None
    folds, judged = parts.folds, np.flatnonzero(parts.folds >= 0)
    numbers = np.unique(folds[judged]).tolist()
    check_fits(blocks, parts.train, how.task)
    before = predict(blocks, parts.train, forward_batch(allowance, BATCH_SIZE))
    after = before.clone()
    failed = 0
    for done, fold in enumerate(numbers):
        others, inside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        one_of = _one_of(how, done, len(numbers) + 1)
        try:
            tuned = tune_samples(blocks, plan, parts.train.subset(others), None, one_of, allowance)
        except (DataError, PlanError) as error:
            failed += 1
            if failed == len(numbers):
                few = f"{len(others)} of {len(parts.train)} samples, with which the others are judged"
                raise DataError(f"with {few}: {error} (val=0 or --val 0 judges nothing)") from error
            continue
        if tuned.stopped is not None:
            return tuned.stopped
        after[torch.from_numpy(inside)] = _run(blocks, tuned, parts.train.subset(inside), allowance)
    rows = torch.from_numpy(judged)
    return Outputs(parts.train.subset(judged), before[rows], after[rows])


def _run(blocks: Blocks, tuned: Tuned, samples: Samples, allowance: Allowance) -> torch.Tensor:
    with changed_to(blocks.model, tuned.changed):
        return predict(blocks, samples, forward_batch(allowance, BATCH_SIZE))


def _one_of(how: Tuning, run: int, runs: int) -> Tuning:
    """The options of one of several runs, which reports its steps as part of all of them."""
    on_step = how.on_step
    if on_step is None:
        return replace(how, resume_path=None)

    def reported(done: int, total: int) -> None:
        on_step(run * total + done, runs * total)

    return replace(how, resume_path=None, on_step=reported)
