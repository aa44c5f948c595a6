"""From samples to a plan: diagnose, predict what each option costs, and choose within the allowance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.choosing.choice import Choice, beyond, check_energy_known, choose, expected_accuracies
from tbft.choosing.cost import Prediction, predict_costs
from tbft.choosing.options import options_of
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.levels import diagnose_samples
from tbft.diagnosis.observation import BATCH_SIZE
from tbft.errors import PlanError
from tbft.plan import Allowance, Plan, Recipe
from tbft.tuning.memory_limit import MIN_BATCH


@dataclass(frozen=True)
class Setting:
    """What choosing knows beside the samples.

    Attributes:
        card: source card of the base model; without one the diagnosis is weaker.
        labeled: whether labels are looked at.
        judged: held-out samples that the tuned model will be compared on.
        seed: random seed of tuning.
    """

    recipe: Recipe
    card: SourceCard | None = None
    labeled: bool = True
    judged: int = 0
    seed: int = 0


def choose_plan(
    blocks: Blocks, samples: Samples, setting: Setting, allowance: Allowance | None = None
) -> Choice:
    """Diagnose samples, predict what each option that may help costs on them, and choose.

    What diagnosing and predicting took is taken off the budget that options have to keep to.

    Args:
        samples: of the target; labeled ones are those that would be tuned on.
        allowance: the budget, with its clock running.

    Raises:
        CardError, DataError, PlanError: as :func:`diagnose_samples` and :func:`choose`.
    """
    allowance = allowance or Allowance()
    budget, recipe = allowance.budget, setting.recipe
    if recipe.duration.validate:
        raise PlanError(
            f"choosing is for recipes without validation, not for {recipe.name!r}: name a level or an arm"
        )
    diagnosis = diagnose_samples(blocks, samples, setting.card, setting.labeled, batch_size(allowance))
    options = options_of(blocks.names, blocks.head, bool(batch_norms(blocks.model)))
    hopeful = expected_accuracies(diagnosis, options)
    plans = {o.name: o.plan(recipe, setting.seed, budget) for o in options if o.name in hopeful}
    how = Prediction(setting.judged, profile=allowance.profile, memory=budget.peak_bytes is not None)
    costs = predict_costs(blocks, plans, samples, how)
    return choose(diagnosis, options, plans, costs, allowance.left(), " left after choosing")


def check_affordable(blocks: Blocks, plan: Plan, samples: Samples, judged: int, allowance: Allowance) -> None:
    """Refuse a plan that somebody named if it is predicted to exceed its budget of time or energy."""
    if not allowance.budget.is_timed:
        return
    cost = predict_costs(blocks, {"": plan}, samples, Prediction(judged, profile=allowance.profile))[""]
    check_energy_known([cost], allowance.budget)
    if reason := beyond(replace(cost, min_bytes=None), allowance.budget):
        raise PlanError(f"{plan.arm.name!r} is predicted to take {reason}: allow more, or name a later block")


def batch_size(allowance: Allowance) -> int:
    """Of forward passes besides tuning; where memory is short, as few as training goes down to."""
    return BATCH_SIZE if allowance.budget.peak_bytes is None else MIN_BATCH
