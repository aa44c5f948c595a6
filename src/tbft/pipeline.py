"""The whole flow: split, diagnose, choose, tune under a meter, verify, make a patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tbft.choosing.planning import Setting, affordable, choose_plan
from tbft.choosing.trying import prototypes_of
from tbft.data.parts import read_parts
from tbft.diagnosis.card import SourceCard
from tbft.errors import check_form
from tbft.loading import as_base, inputs_for, reader_of
from tbft.metering import Meter, Profile, find_profile
from tbft.personalization import Personalization, patch_of
from tbft.plan import Allowance, Budget, Plan, Recipe, Statistics
from tbft.request import Request
from tbft.tuning.judging import tune_and_judge
from tbft.tuning.loop import OnStep
from tbft.tuning.options import Tuning
from tbft.tuning.prefix_cache import CachePolicy, as_cache
from tbft.verification.comparison import Rule, evaluate_both
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
    order: str | None = None,
    cautious: bool = True,
    seed: int = 0,
    progress: OnStep | None = None,
) -> Personalization:
    """Adapt a model to a few labeled samples, measure the gain and the cost, and make a patch.

    The model itself is restored. Inside ``with result.patch.applied(model):`` it is the tuned model.

    Args:
        model: a ``torch.nn.Module``, ``Blocks``, a ``Base``, the name of a preset, or
            ``"package.module:factory"``.
        train: labeled target samples: :class:`tbft.Samples`, ``(inputs, labels)`` of arrays or tensors, a
            torch ``Dataset`` or ``DataLoader``, or a path as for :func:`tbft.read`. All of them are tuned
            on, except those held out for `val` and `test`. Or the parts from :func:`tbft.split_samples`.
        val: samples held out to decide whether to keep the tuned model: samples in the same forms, or a share
            or a count of `train`; default: a fifth of `train`, at most 500. Where that is fewer than 40,
            acceptance is cross-fitted instead: all of `train` is tuned on, and each sample is judged by a
            model tuned on other folds. Recipes that validate choose the epoch with `val` instead.
        test: samples used for evaluation only, in the same forms; default: none.
        card: source card of the base model, or its file; without one the diagnosis is weaker.
        cuts, names: where to cut a module into blocks, and the names of the blocks, see :func:`tbft.split`.
        plan: what to do, instead of level, arm, recipe, statistics, seed and budget.
        level: level of the drift: ``auto`` (diagnose it and choose a plan), ``none``, ``input``,
            ``feature`` or ``output``.
        arm: what to tune, instead of a level: ``none``, ``adabn``, a block, a submodule, two of these
            joined by ``+``, ``full``, or a head in closed form, ``ridge`` or ``prototypes``.
        recipe: how to train: a recipe or its name, ``fast`` or ``paper``.
        statistics: with a level or an arm, the share of the source in BatchNorm's statistics, 0 to 1, or
            ``auto``.
        budget: limits of time, energy and memory, which neither predicted nor measured figures exceed.
        loss: for tasks other than classification, (outputs, targets) -> mean loss of a batch, such as
            ``torch.nn.functional.mse_loss``; floats, or several numbers per sample, are then targets. With
            class labels it replaces the cross-entropy, for example to use class weights.
        score: (outputs, targets) -> a number per sample, or one for all; higher is better. It decides whether
            the tuned model is kept. Default: accuracy, or the negative loss.
        profile: profile of this board, its name or its file, to estimate energy where no sensor measures it.
        meter: the meter to use, instead of one with the best available sensor.
        cache: where to keep outputs of the frozen prefix that do not fit into memory: a policy or a folder.
        resume: file for the state of an unfinished run, which is resumed if the file exists.
        group_by: attribute whose values are never split between parts; ``"none"`` for none.
        order: attributes with the time of each sample, joined by commas, or ``"file"`` for the order of the
            set: `test` and `val` are the latest samples, and folds stretches of time; ``"none"``: time plays
            no role, and labels count as a random draw.
        cautious: where labels cannot tell, keep the base model unless a loss of more than a point is
            improbable, see ``docs/acceptance.md``; if False, a positive expected gain is enough.
        seed: random seed for splitting and tuning.
        progress: called with (steps done, steps in total) during training.

    Raises:
        TbftError: an argument is wrong, or arguments cannot be combined; the message says what to do.
    """
    check_form("meter", meter, Meter, "a Meter")
    check_form("resume", resume, (str, Path), "the path of a file")
    check_form("cautious", cautious, (bool, int), "True or False")
    check_form("order", order, str, "the name of an attribute, 'file' or 'none'")
    check_form("group_by", group_by, str, "the name of an attribute or 'none'")
    base = as_base(model, card, cuts, names, reader_of(train, loss))
    request = Request(base, level, arm, recipe, statistics, seed, budget, plan)
    by = request.split_by(group_by, order)
    parts = read_parts(inputs_for(base.inputs, loss), train, val, test, by)
    task = as_task(loss, score, parts.train.targets is not None)
    with meter or Meter(profile=find_profile(profile)) as meter:
        allowance = Allowance(request.budget, meter.profile)
        plan, choice = request.named_plan, None
        if plan is None:
            setting = Setting(request.recipe, base.card, task.is_classification, seed, parts)
            choice = choose_plan(base.blocks, parts.train, setting, allowance)
            plan = choice.plan
        else:
            if base.card is not None:
                base.card.check(base.model)
            plan = affordable(base.blocks, plan, parts, allowance)
        parts = replace(parts, train=base.checked(parts.train))
        choosing_cpu_seconds = allowance.cpu_seconds
        path, prototypes = None if resume is None else Path(resume), prototypes_of(base.card)
        how = Tuning(as_cache(cache), None, path, progress, task=task, prototypes=prototypes)
        expected = None if choice is None else choice.expected_gain
        rule = Rule(cautious, parts.group_by, expected=expected)
        judged = tune_and_judge(base.blocks, plan, parts, how, allowance, rule)
    return Personalization(
        base=base,
        parts=parts,
        tuned=judged.tuned,
        patch=patch_of(base, judged.tuned, meter.measurement, parts.train),
        measurement=meter.measurement,
        choosing_cpu_seconds=choosing_cpu_seconds,
        choice=choice,
        acceptance=judged.acceptance,
        comparison=evaluate_both(base.blocks, judged.tuned.changed, parts, task, judged.outputs),
    )
