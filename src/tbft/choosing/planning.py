"""From samples to a plan: diagnose, predict what each option costs, and choose within the allowance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.choosing.choice import Choice, beyond, check_energy_known, choose, expected_accuracies
from tbft.choosing.cost import Prediction, predict_costs
from tbft.choosing.options import options_of
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.levels import diagnose_samples
from tbft.diagnosis.observation import BATCH_SIZE
from tbft.errors import PlanError
from tbft.plan import Allowance, Plan, Recipe
from tbft.tuning.memory_limit import MIN_BATCH


@dataclass(frozen=True)
class Setting:
    """What choosing needs besides the samples.

    Attributes:
        card: source card of the base model; without one the diagnosis is weaker.
        labeled: whether to use labels.
        judged: number of held-out samples on which the tuned model will be compared with the base.
        seed: random seed for tuning.
        runs: how many times a plan is carried out, with cross-fitting.
    """

    recipe: Recipe
    card: SourceCard | None = None
    labeled: bool = True
    judged: int = 0
    seed: int = 0
    runs: int = 1


def choose_plan(
    blocks: Blocks, samples: Samples, setting: Setting, allowance: Allowance | None = None
) -> Choice:
    """Diagnose samples, predict the cost of each option that may help, and choose one.

    The time spent on diagnosing and predicting counts against the budget.

    Args:
        samples: target samples, which would be tuned on.
        allowance: the budget, with its clock already running.

    Raises:
        CardError, DataError, PlanError: as in :func:`diagnose_samples` and :func:`choose`.
    """
    allowance = allowance or Allowance()
    budget, recipe = allowance.budget, setting.recipe
    if recipe.duration.validate:
        raise PlanError(
            f"a plan cannot be chosen for {recipe.name!r}, which validates: name a level or an arm, or take "
            "another recipe"
        )
    diagnosis = diagnose_samples(blocks, samples, setting.card, setting.labeled, batch_size(allowance))
    options = options_of(blocks.names, blocks.head, bool(batch_norms(blocks.model)))
    expected = expected_accuracies(diagnosis, options)
    plans = {o.name: o.plan(recipe, setting.seed, budget) for o in options if o.name in expected}
    how = Prediction(setting.judged, profile=allowance.profile, memory=budget.peak_bytes is not None)
    costs = {k: c.times(setting.runs) for k, c in predict_costs(blocks, plans, samples, how).items()}
    return choose(diagnosis, options, plans, costs, allowance.left(), " left after choosing")


def check_affordable(blocks: Blocks, plan: Plan, parts: Parts, allowance: Allowance) -> None:
    """Raise PlanError if a plan is predicted to exceed its budget of time or energy."""
    if not allowance.budget.is_timed:
        return
    how = Prediction(parts.judged_count, profile=allowance.profile)
    cost = predict_costs(blocks, {"": plan}, parts.train, how)[""].times(parts.run_count)
    check_energy_known([cost], allowance.budget)
    if reason := beyond(replace(cost, min_bytes=None), allowance.budget):
        raise PlanError(f"{plan.arm.name!r} is predicted to take {reason}: allow more, or name a later block")


def batch_size(allowance: Allowance) -> int:
    """Batch size of forward passes outside tuning; the smallest that tuning uses if memory is limited."""
    return BATCH_SIZE if allowance.budget.peak_bytes is None else MIN_BATCH
