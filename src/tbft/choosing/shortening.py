"""Shorter schedules where a budget is too small for the usual one, settled before tuning begins.

A schedule that is cut off in the middle has not yet lowered its learning rate, and is worth less than a
shorter one that was planned as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tbft.choosing.cost import Cost
from tbft.choosing.estimates import Estimate
from tbft.plan import Budget, Plan, replace_plan

#: Share of the usual steps -> share of the usual gain in accuracy that is left.
KEPT_GAIN = {0.25: 0.8, 0.4: 0.87, 0.55: 0.9, 0.75: 0.95, 1.0: 1.0}
#: Schedules are not made shorter than this.
MIN_LENGTH = min(KEPT_GAIN)
#: Share of a budget that a shortened plan may be predicted to take; predictions are off by up to 15 %.
FILLED = 0.85


@dataclass(frozen=True)
class Options:
    """The plans of options, what they cost, and what they are expected to reach."""

    plans: Mapping[str, Plan]
    costs: Mapping[str, Cost]
    estimates: Mapping[str, Estimate]


def shorten(options: Options, budget: Budget) -> Options:
    """Shorten the schedules of options that exceed a budget, if a shorter one fits."""
    plans, costs, estimates = dict(options.plans), dict(options.costs), dict(options.estimates)
    base = estimates["none"].accuracy if "none" in estimates else 0.0
    for name in set(plans) & set(costs):
        length = fitting_length(plans[name], costs[name], budget)
        if length == 1.0:
            continue
        plans[name], costs[name] = shortened(plans[name], length), costs[name].shortened(length)
        if name in estimates:
            gain = estimates[name].accuracy - base
            lost = (1 - kept_gain(length)) * max(gain, 0.0)
            estimates[name] = replace(estimates[name], accuracy=estimates[name].accuracy - lost)
    return Options(plans, costs, estimates)


def fitting_length(plan: Plan, cost: Cost, budget: Budget) -> float:
    """The share of the usual steps that fits into what is left of a budget; 1 if no share would.

    Recipes that validate are left as they are, as they keep their best epoch wherever they stop.

    >>> plan, budget = Plan("front"), Budget(cpu_seconds=6)
    >>> fitting_length(plan, Cost(None, 9.0, 0, training_cpu_seconds=8.0), budget)
    0.5125
    """
    shares = [1.0]  # of the cost, that each budget allows
    if budget.cpu_seconds is not None and cost.cpu_seconds > budget.cpu_seconds:
        shares.append(budget.cpu_seconds / cost.cpu_seconds)
    if budget.joules is not None and cost.energy_joules and cost.energy_joules > budget.joules:
        shares.append(budget.joules / cost.energy_joules)
    if len(shares) == 1 or not cost.training_cpu_seconds or plan.recipe.duration.validate:
        return 1.0
    rest = cost.cpu_seconds - cost.training_cpu_seconds
    length = round((FILLED * min(shares) * cost.cpu_seconds - rest) / cost.training_cpu_seconds, 4)
    return length if length >= MIN_LENGTH else 1.0


def shortened(plan: Plan, length: float) -> Plan:
    """The plan with a share of its steps."""
    recipe = plan.recipe
    return replace_plan(plan, recipe=recipe.replace(length=length * recipe.duration.length))


def kept_gain(length: float) -> float:
    """The share of the gain in accuracy that a shorter schedule keeps.

    >>> kept_gain(1.0)
    1.0
    """
    return float(np.interp(length, list(KEPT_GAIN), list(KEPT_GAIN.values())))
