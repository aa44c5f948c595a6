"""From a diagnosis, estimates, costs and a budget to a plan: pure functions, no tensors.

Options beyond the budget are excluded. Of the others, the cheapest of those within half a point of the best
expected accuracy is chosen; where the user says what a second of processor time is worth, accuracy and cost
are weighed instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tbft.choosing.cost import Cost
from tbft.choosing.estimates import Estimate
from tbft.choosing.explanation import explain
from tbft.choosing.label_forecast import Forecast
from tbft.choosing.trials import Trials
from tbft.diagnosis.levels import NOT_DIAGNOSED, Diagnosis
from tbft.errors import PlanError
from tbft.plan import Budget, Plan, replace_plan
from tbft.plan.budget import rounded
from tbft.verification.pairs import ExpectedGain

#: Options whose expected accuracies differ by less than this count as equally good: the cheaper is chosen.
TOLERANCE = 0.005
#: Costs up to this many times the lowest count as equal: among those, the most accurate option is chosen.
EQUAL_COST = 1.1


@dataclass(frozen=True)
class Choice:
    """The chosen option, and why it was chosen.

    Attributes:
        plan: the plan to carry out.
        option: name of the chosen option.
        estimates: option -> what it is expected to reach, and what it reached where it was tried.
        costs: option -> predicted cost.
        excluded: option -> the budget that it exceeds.
        contenders: affordable options within the tolerance of the best; more than one is a tie.
        trial_cpu_seconds: processor seconds that the trials took.
        explanation: one paragraph.
        is_representative: whether each class has labels, about as many as the others.
        forecast: what more labels would be worth; None where no features were computed.
    """

    plan: Plan
    option: str
    diagnosis: Diagnosis
    estimates: Mapping[str, Estimate]
    costs: Mapping[str, Cost]
    excluded: Mapping[str, str]
    contenders: tuple[str, ...]
    trial_cpu_seconds: float
    explanation: str
    forecast: Forecast | None = None
    is_representative: bool = True

    @property
    def expected_gain(self) -> ExpectedGain | None:
        """The gain that was expected of the chosen option before it was tried; None if nothing is known."""
        known = self.diagnosis.verdict != NOT_DIAGNOSED and self.is_representative
        return self.estimates[self.option].expected if known else None

    @property
    def expected_accuracies(self) -> dict[str, float]:
        """Option -> expected accuracy, 0 to 1."""
        return {name: e.accuracy for name, e in self.estimates.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "option": self.option,
            "arm": self.plan.arm.name,
            "diagnosis": self.diagnosis.to_json(),
            "expected_accuracies": self.expected_accuracies,
            "estimates": {name: e.to_json() for name, e in self.estimates.items()},
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "excluded": dict(self.excluded),
            "contenders": list(self.contenders),
            "trial_cpu_seconds": self.trial_cpu_seconds,
            "explanation": self.explanation,
            "forecast": None if self.forecast is None else self.forecast.to_json(),
        }


def choose(
    diagnosis: Diagnosis,
    estimates: Mapping[str, Estimate],
    plans: Mapping[str, Plan],
    costs: Mapping[str, Cost],
    budget: Budget | None = None,
    trials: Trials | None = None,
) -> Choice:
    """Choose an affordable option.

    Args:
        plans, costs: option -> plan and its predicted cost; options without a cost are ignored.
        budget: what is left of it.

    Raises:
        PlanError: there is an energy budget, but no cost has an energy figure.
    """
    budget, trials = budget or Budget(), trials or Trials()
    check_energy_known(costs.values(), budget)
    excluded = {name: reason for name, cost in costs.items() if (reason := beyond(cost, budget))}
    estimates = {name: e for name, e in estimates.items() if name in costs}
    affordable = {name: e.accuracy for name, e in estimates.items() if name not in excluded}
    chosen, contenders = _best(affordable, costs, budget.worth)
    level = diagnosis.name if diagnosis.levels else "none"
    return Choice(
        plan=_with_strength(plans[chosen], level, estimates[chosen].strength),
        option=chosen,
        diagnosis=diagnosis,
        estimates=estimates,
        costs=dict(costs),
        excluded=excluded,
        contenders=contenders,
        trial_cpu_seconds=trials.cpu_seconds,
        explanation=explain(diagnosis, chosen, estimates, costs, excluded, trials),
    )


def _with_strength(plan: Plan, level: str, strength: float) -> Plan:
    return replace_plan(plan, level=level, recipe=plan.recipe.replace(strength=strength))


def _best(
    expected: Mapping[str, float], costs: Mapping[str, Cost], worth: float | None
) -> tuple[str, tuple[str, ...]]:
    """The best option, and those that are as good."""
    if worth is not None:
        value = {name: 100 * e - worth * costs[name].cpu_seconds for name, e in expected.items()}
        chosen = max(value, key=lambda name: value[name])
        return chosen, (chosen,)
    best = max(expected.values())
    contenders = [name for name, value in expected.items() if value >= best - TOLERANCE]
    min_seconds = min(costs[name].cpu_seconds for name in contenders)
    cheapest = [name for name in contenders if costs[name].cpu_seconds <= EQUAL_COST * min_seconds]
    return max(cheapest, key=lambda name: expected[name]), tuple(contenders)


def check_energy_known(costs: Iterable[Cost], budget: Budget) -> None:
    """Raise PlanError if there is an energy budget, but no cost has an energy figure."""
    if budget.joules is not None and all(cost.energy_joules is None for cost in costs):
        raise PlanError(
            "a budget in joules needs an energy estimate, and there is none without a profile of this board: "
            "give one with --profile, or a budget in seconds"
        )


def beyond(cost: Cost, budget: Budget, left: str = " left after choosing") -> str | None:
    """Which budget a cost exceeds, in words; None if it exceeds none.

    >>> beyond(Cost(1e12, 6.0, 80_000), Budget(cpu_seconds=5), "")
    '6.0 s of processor time, more than 5.0 s'
    """
    if budget.cpu_seconds is not None and cost.cpu_seconds > budget.cpu_seconds:
        allowed = f"more than {rounded(budget.cpu_seconds)} s{left}"
        return f"{rounded(cost.cpu_seconds)} s of processor time, {allowed}"
    if budget.joules is not None and cost.energy_joules is not None and cost.energy_joules > budget.joules:
        return f"{rounded(cost.energy_joules)} J, more than {rounded(budget.joules)} J{left}"
    needed = cost.min_bytes or 0
    if budget.peak_bytes is not None and needed > budget.peak_bytes:
        return f"at least {rounded(needed / 2**20)} MiB, more than {rounded(budget.peak_bytes / 2**20)} MiB"
    return None
