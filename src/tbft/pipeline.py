"""The flow in a row: split, diagnose, choose, tune under a meter, verify, make a patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tbft.base import as_base, reader_of
from tbft.choosing.planning import Setting, batch_size, check_affordable, choose_plan
from tbft.diagnosis.card import SourceCard
from tbft.metering import Meter, Profile, find_profile
from tbft.personalization import Personalization, Wish, parts_of, patch_of
from tbft.plan import Allowance, Budget, Plan, Recipe, Statistics
from tbft.tuning.execution import tune_samples
from tbft.tuning.loop import OnStep
from tbft.tuning.options import Tuning
from tbft.tuning.prefix_cache import CachePolicy, as_cache
from tbft.verification.comparison import compare_models, evaluate_both
from tbft.verification.task import as_task


def personalize(
    model: Any,
    train: Any,
    *,
    val: Any = None,
    test: Any = None,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    plan: Plan | None = None,
    level: str = "auto",
    arm: str | None = None,
    recipe: Recipe | str = "fast",
    statistics: Statistics | float | str | None = None,
    budget: Budget | None = None,
    loss: Any = None,
    score: Any = None,
    profile: Profile | str | Path | None = None,
    meter: Meter | None = None,
    cache: CachePolicy | str | Path | None = None,
    resume: str | Path | None = None,
    group_by: str | None = None,
    seed: int = 0,
    progress: OnStep | None = None,
) -> Personalization:
    """Adapt a model to a few labeled samples, prove what it gained and what it cost, and make a patch.

    The model comes back as it was. ``with result.patch.applied(model):`` makes it the tuned one.

    Args:
        model: a ``torch.nn.Module``, ``Blocks``, a ``Base``, a preset's name, or
            ``"package.module:factory"``.
        train: labeled samples of the target: :class:`tbft.Samples`, ``(inputs, labels)`` of arrays or
            tensors, a ``Dataset`` or ``DataLoader`` of torch, or a path that :func:`tbft.read` takes. What is
            not held out for `val` and `test` is tuned on. Or parts of :func:`tbft.split_samples`.
        val: held out to decide whether the tuned model is kept: samples in the same forms, a share, or a
            count; default a fifth of `train`, at most 500. Recipes that validate choose the epoch by it.
        test: only evaluated on, in the same forms; default none.
        card: source card of the base model, or its file; without one the diagnosis is weaker.
        cuts, names: where to cut a module into blocks, and what to call them, see :func:`tbft.split`.
        plan: what to do, in place of level, arm, recipe, statistics, seed and budget.
        level: of the drift: ``auto`` (diagnosed, and the plan chosen), ``none``, ``input``, ``feature`` or
            ``output``.
        arm: what to tune, in place of a level: ``none``, ``adabn``, a block, a submodule, two joined by
            ``+``, or ``full``.
        recipe: how to train, or its name: ``fast`` or ``paper``.
        statistics: with a level or an arm: the share of the source in BatchNorm's statistics, 0 to 1, or
            ``auto``.
        budget: never exceeded, neither in what is predicted nor in what is then measured.
        loss: for another task than classification, (outputs, targets) -> mean loss of a batch, such as
            ``torch.nn.functional.mse_loss``; floats, or several numbers a sample, are then targets. With
            class labels it stands for the cross-entropy, for example with class weights.
        score: (outputs, targets) -> one number a sample, or one for all; higher is better. It decides whether
            the tuned model is kept. Default: accuracy, or minus the loss.
        profile: of this board, to estimate energy where nothing measures it; or its name or file.
        meter: measures all of it, in place of one with the best sensor there is.
        cache: where outputs of the frozen prefix are kept if memory does not hold them; or a folder.
        resume: file that an unfinished run is kept in, and resumed from.
        group_by: attribute whose values are not split between parts; ``"none"`` for none.
        seed: random seed of splitting and tuning.
        progress: called with (step done, steps in all) while training.

    Raises:
        TbftError: something given is wrong, or does not go together; the message says what to do.
    """
    base = as_base(model, card, cuts, names, reader_of(train))
    wish = Wish(base, level, arm, recipe, statistics, seed, budget, plan)
    parts = parts_of(base, train, val, test, seed, group_by, loss)
    task = as_task(loss, score, parts.train.targets is not None)
    with meter or Meter(profile=find_profile(profile)) as meter:
        allowance = Allowance(wish.settled_budget, meter.profile)
        choice = None
        if wish.named is None:
            setting = Setting(wish.recipe, base.card, task.is_classification, len(parts.val), seed)
            choice = choose_plan(base.blocks, parts.train, setting, allowance)
            plan = choice.plan
        else:
            plan = wish.named
            check_affordable(base.blocks, plan, parts.train, len(parts.val), allowance)
        choosing_cpu_seconds = allowance.cpu_seconds
        how = Tuning(as_cache(cache), None, None if resume is None else Path(resume), progress, task=task)
        chooses_epoch = plan.recipe.duration.validate
        tuned = tune_samples(
            base.blocks, plan, parts.train, parts.val if chooses_epoch else None, how, allowance
        )
        held_out = parts.val.subset(slice(0, 0)) if chooses_epoch else parts.val
        acceptance = compare_models(base.model, tuned.changed, held_out, batch_size(allowance), task)
    if acceptance is not None and not acceptance.accepted:
        tuned = replace(tuned, changed={})
    return Personalization(
        base=base,
        parts=parts,
        tuned=tuned,
        patch=patch_of(base, tuned, meter.measurement, len(parts.train)),
        measurement=meter.measurement,
        choosing_cpu_seconds=choosing_cpu_seconds,
        choice=choice,
        acceptance=acceptance,
        comparison=evaluate_both(base.model, tuned.changed, parts, task),
    )
