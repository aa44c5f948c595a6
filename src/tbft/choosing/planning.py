"""From samples to a plan: diagnose, predict what each option costs, and choose within the allowance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tbft.blocks import Arm, Blocks
from tbft.blocks.solvable import class_count, linear_head
from tbft.blocks.state import batch_norms
from tbft.choosing.affording import check_affords_diagnosis, check_affords_memory, check_not_spent
from tbft.choosing.choice import TOLERANCE, Choice, beyond, check_energy_known, choose
from tbft.choosing.cost import Cost, Prediction, predict_costs
from tbft.choosing.estimates import Estimate, estimate
from tbft.choosing.label_forecast import forecast_seen
from tbft.choosing.options import Option, options_of
from tbft.choosing.shortening import Options, fitting_length, shorten, shortened
from tbft.choosing.trials import Trials
from tbft.choosing.trying import Trying, run_trials
from tbft.data.origin import origin_of
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.gathering import gather
from tbft.diagnosis.levels import NOT_DIAGNOSED, diagnose_evidence
from tbft.diagnosis.observation import BATCH_SIZE
from tbft.diagnosis.rules import unmended
from tbft.errors import BudgetError, PlanError
from tbft.plan import Allowance, Plan, Recipe, Spending
from tbft.tuning.memory_limit import forward_batch

#: Share of the likeliest option's predicted cost that trials may take, and what they may take in any case.
TRIAL_SHARE, MIN_TRIAL_SECONDS = 1 / 3, 2.0


@dataclass(frozen=True)
class Setting:
    """What choosing needs besides the samples.

    Attributes:
        card: source card of the base model; without one the diagnosis is weaker.
        labeled: whether to use labels.
        seed: random seed for tuning.
        parts: those of which the samples are the training part, which tell how the tuned model will be
            judged; None: it will not be.
    """

    recipe: Recipe
    card: SourceCard | None = None
    labeled: bool = True
    seed: int = 0
    parts: Parts | None = None


def choose_plan(
    blocks: Blocks, samples: Samples, setting: Setting, allowance: Allowance | None = None
) -> Choice:
    """Diagnose samples, predict the cost of each option that may help, and choose one.

    The time spent on diagnosing and predicting counts against the budget.

    Args:
        samples: target samples, which would be tuned on.
        allowance: the budget, with its clock already running.

    Raises:
        CardError, DataError: as in :func:`gather`.
        PlanError: as in :func:`choose`, or there are neither labels nor anything known of the source.
        BudgetError: the budget of time or energy is too small to choose, or that of memory to tune anything.
    """
    allowance = allowance or Allowance()
    budget, recipe, nothing = allowance.budget, setting.recipe, samples.subset(slice(0, 0))
    parts = setting.parts or Parts(samples, nothing, nothing, setting.seed, None)
    if recipe.duration.validate:
        raise PlanError(
            f"a plan cannot be chosen for {recipe.name!r}, which validates: name a level or an arm, or take "
            "another recipe"
        )
    check_affords_diagnosis(blocks, samples, batch_size(allowance), allowance)
    found = gather(blocks, samples, setting.card, setting.labeled, batch_size(allowance))
    diagnosis = diagnose_evidence(found)
    if diagnosis.verdict == NOT_DIAGNOSED and not setting.labeled:
        raise PlanError(
            "there is nothing to choose by: a model without BatchNorm keeps no statistics of its source, and "
            "options are tried on class labels only; name a level (feature, say) or an arm (full, say)"
        )
    adapts, solves = bool(batch_norms(blocks.model)), linear_head(blocks) is not None
    options = [o for o in options_of(blocks.names, blocks.head, adapts, solves) if _is_trainable(blocks, o)]
    if labels_lack_classes(blocks, samples):  # means of the source would stand beside those of the target
        options = [o for o in options if o.arm != "prototypes"]
    if len(options) == 1:
        raise PlanError(
            "all parameters are frozen (requires_grad=False), so nothing can be tuned: set requires_grad on "
            "those that may be, model.requires_grad_(True) on all"
        )
    known = is_known(blocks, samples) and not unmended(diagnosis.evidence, diagnosis.levels)
    origin = origin_of(samples, parts.manner)
    prior = estimate(diagnosis, options, None, known, origin)
    plans = {o.name: o.plan(recipe, setting.seed, budget) for o in options if o.name in prior}
    how = Prediction(parts.judged_count, profile=allowance.profile, memory=budget.peak_bytes is not None)
    once = predict_costs(blocks, plans, samples, how)
    costs = {name: cost.times(parts.run_count) for name, cost in once.items()}
    check_not_spent(allowance, "diagnosing and predicting costs")
    check_affords_memory({name: e.accuracy for name, e in prior.items()}, once, allowance, TOLERANCE)
    trials = Trials()
    if setting.labeled and (diagnosis.levels or not known):
        order = _order_of_trial(prior, plans)
        seconds = _trial_seconds(prior, costs, allowance)
        how_to_try = Trying(setting.card, seconds, batch_size(allowance), parts.manner)
        trials = run_trials(blocks, samples, order, once, how_to_try)
    left = allowance.left()
    fitted = shorten(Options(plans, costs, estimate(diagnosis, options, trials, known, origin)), left)
    choice = choose(diagnosis, fitted.estimates, fitted.plans, fitted.costs, left, trials)
    accuracy, seen = None if setting.card is None else setting.card.accuracy, trials.seen
    return replace(
        choice,
        is_representative=is_representative(blocks, samples),
        forecast=None if seen is None else forecast_seen(samples, seen, accuracy, origin),
    )


def labels_lack_classes(blocks: Blocks, samples: Samples) -> bool:
    """Whether some classes of the model have no labels."""
    return len(np.unique(samples.labels)) < (class_count(blocks) or 0)


def is_representative(blocks: Blocks, samples: Samples) -> bool:
    """Whether each class has labels, about as many as the others: else their mix may look like drift."""
    counts = np.unique(samples.labels, return_counts=True)[1]
    return not labels_lack_classes(blocks, samples) and 2 * counts.min() >= counts.max()


def is_known(blocks: Blocks, samples: Samples) -> bool:
    """Whether expectations by level were fitted on families like this: color pictures, BatchNorm."""
    shape = samples.inputs.shape
    return len(shape) == 4 and 3 in (shape[1], shape[3]) and bool(batch_norms(blocks.model))


def _is_trainable(blocks: Blocks, option: Option) -> bool:
    """Whether there is anything to train for the option, if it trains."""
    arm = Arm.of(option.arm)
    return not arm.trains or bool(blocks.trainable(arm))


def _order_of_trial(prior: Mapping[str, Estimate], plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Forward passes first, then by what is expected."""
    names = sorted(plans, key=lambda name: (plans[name].arm.trains, -prior[name].accuracy))
    return {name: plans[name] for name in names}


def _trial_seconds(prior: Mapping[str, Estimate], costs: Mapping[str, Cost], allowance: Allowance) -> float:
    """Processor seconds that trials may take; what the likeliest option costs is left in the budget."""
    likeliest = max(prior, key=lambda name: prior[name].accuracy)
    budget, left, cost = allowance.budget, allowance.left(), costs[likeliest]
    seconds = budget.choosing_seconds
    if seconds is None:
        seconds = max(cost.cpu_seconds * TRIAL_SHARE, MIN_TRIAL_SECONDS)
    if left.cpu_seconds is not None:
        seconds = min(seconds, (left.cpu_seconds - cost.cpu_seconds) / 2)
    if left.joules is not None and cost.energy_joules:
        spare = max(left.joules - cost.energy_joules, 0.0) / 2
        seconds = min(seconds, spare * cost.cpu_seconds / cost.energy_joules)
    return max(seconds, 0.0)


def affordable(blocks: Blocks, plan: Plan, parts: Parts, allowance: Allowance) -> Plan:
    """The plan, with a shorter schedule if it is predicted to exceed its budget of time or energy.

    Raises:
        PlanError: it exceeds the budget even so.
    """
    if not allowance.budget.is_timed:
        return plan
    how = Prediction(parts.judged_count, profile=allowance.profile)
    cost = predict_costs(blocks, {"": plan}, parts.train, how)[""].times(parts.run_count)
    check_energy_known([cost], allowance.budget)
    left = allowance.left()
    length = fitting_length(plan, cost, left)
    if length < 1:
        return shortened(plan, length)
    if reason := beyond(replace(cost, min_bytes=None), left):
        needed = allowance.spent.plus(Spending(cost.cpu_seconds, cost.energy_joules or 0.0))
        raise BudgetError(
            f"{plan.arm.name!r} is predicted to take {reason}: allow at least "
            f"{needed.in_words(allowance.budget)} in all, or name a later block"
        )
    return plan


def batch_size(allowance: Allowance) -> int:
    """Batch size of forward passes outside tuning."""
    return forward_batch(allowance, BATCH_SIZE)
