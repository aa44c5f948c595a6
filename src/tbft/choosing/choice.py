"""From a diagnosis, costs and a budget to a plan: pure, no tensors.

Every option is given the accuracy that the evidence lets expect; those beyond the budget are left out,
and of those that promise the best, within a tolerance, the cheapest is taken. What an option may be
expected to give was measured on the development half of ``benchmarks/shifts.py``, and lies in
``expectations.json``; ``benchmarks/selector_regret.py --calibrate`` makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from math import log10
from typing import Any

from tbft.choosing.cost import Cost
from tbft.choosing.options import Option
from tbft.diagnosis.evidence import Evidence
from tbft.diagnosis.levels import Z_SCORE, Diagnosis, remapped
from tbft.errors import PlanError
from tbft.plan import Budget, Plan, replace_plan

#: Options whose expected accuracies differ by less are as good as each other: the cheaper is taken.
TOLERANCE = 0.005
#: Distances below are those of clean samples, and no expectation is to follow them.
MIN_DISTANCE = 0.01
#: Costs up to this many times the lowest count as equal: of those the better is taken.
EQUAL_COST = 1.1

#: What is worth considering where drift is of one level alone; Huang et al. (2024), section 3. A new head
#: for an old input level looked good on some development shifts and lost 8 points on others.
SUITED: Mapping[str, tuple[str, ...]] = {
    "input": ("none", "adabn", "front", "middle", "front+head"),
    "output": ("none", "late", "head", "full"),
    "moved": ("none", "adabn", "head"),
}


@dataclass(frozen=True)
class Choice:
    """The option taken, and why.

    Attributes:
        plan: to be carried out.
        option: its name.
        expected_accuracies: option -> expected accuracy, 0 to 1.
        costs: option -> predicted cost.
        excluded: option -> which budget it exceeds.
        contenders: options within reach of the best; more than one is a tie.
        explanation: one paragraph.
    """

    plan: Plan
    option: str
    diagnosis: Diagnosis
    expected_accuracies: Mapping[str, float]
    costs: Mapping[str, Cost]
    excluded: Mapping[str, str]
    contenders: tuple[str, ...]
    explanation: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "option": self.option,
            "arm": self.plan.arm.name,
            "diagnosis": self.diagnosis.to_json(),
            "expected_accuracies": dict(self.expected_accuracies),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "excluded": dict(self.excluded),
            "contenders": list(self.contenders),
            "explanation": self.explanation,
        }


@cache
def expectations() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Row -> option's role -> labels a class -> four coefficients; see :func:`expected_accuracies`."""
    text = files("tbft.choosing").joinpath("expectations.json").read_text()
    found: dict[str, dict[str, dict[str, list[float]]]] = json.loads(text)["rows"]
    return found


def choose(
    diagnosis: Diagnosis,
    options: Sequence[Option],
    plans: Mapping[str, Plan],
    costs: Mapping[str, Cost],
    budget: Budget | None = None,
    left: str = "",
) -> Choice:
    """The cheapest option that promises the best accuracy, within the budget.

    Args:
        plans, costs: option -> plan and its predicted cost; options without one are left out.
        left: said after a budget that an option exceeds, for example that choosing has spent some of it.

    Raises:
        PlanError: a budget of energy, but costs without an energy figure.
    """
    budget = budget or Budget()
    check_energy_known(costs.values(), budget)
    excluded = {name: reason for name, cost in costs.items() if (reason := beyond(cost, budget, left))}
    expected = expected_accuracies(diagnosis, [option for option in options if option.name in costs])
    open_to = {name: value for name, value in expected.items() if name not in excluded}
    best = max(open_to.values())
    contenders = [name for name, value in open_to.items() if value >= best - TOLERANCE]
    cheapest = min(costs[name].cpu_seconds for name in contenders)
    as_cheap = [name for name in contenders if costs[name].cpu_seconds <= EQUAL_COST * cheapest]
    chosen = max(as_cheap, key=lambda name: expected[name])
    return Choice(
        plan=replace_plan(plans[chosen], level=diagnosis.name if diagnosis.levels else "none"),
        option=chosen,
        diagnosis=diagnosis,
        expected_accuracies=expected,
        costs=dict(costs),
        excluded=excluded,
        contenders=tuple(contenders),
        explanation=_explanation(diagnosis, chosen, expected, costs, excluded),
    )


def check_energy_known(costs: Iterable[Cost], budget: Budget) -> None:
    """Raise PlanError if there is a budget of energy, and no cost has an energy figure."""
    if budget.joules is not None and all(cost.energy_joules is None for cost in costs):
        raise PlanError(
            "a budget in joules needs an energy figure, and nothing here can give one: "
            "no profile of this board (--profile); give a budget in seconds"
        )


def beyond(cost: Cost, budget: Budget, left: str = "") -> str | None:
    """Which budget a cost exceeds, in words; None if none.

    >>> beyond(Cost(1e12, 6.0, 80_000), Budget(cpu_seconds=5))
    '6.0 s of processor time, more than 5.0 s'
    """
    if budget.cpu_seconds is not None and cost.cpu_seconds > budget.cpu_seconds:
        return f"{cost.cpu_seconds:.1f} s of processor time, more than {budget.cpu_seconds:.1f} s{left}"
    if budget.joules is not None and cost.energy_joules is not None and cost.energy_joules > budget.joules:
        return f"{cost.energy_joules:.1f} J, more than {budget.joules:.1f} J{left}"
    needed = cost.min_bytes or 0
    if budget.peak_bytes is not None and needed > budget.peak_bytes:
        return f"at least {needed / 2**20:.1f} MiB, more than {budget.peak_bytes / 2**20:.1f} MiB"
    return None


def expected_accuracies(diagnosis: Diagnosis, options: Sequence[Option]) -> dict[str, float]:
    """Option -> accuracy that the evidence lets expect, 0 to 1.

    Accuracy over that on the source is taken to be linear in accuracy at rest, accuracy after AdaBN (both
    over the source's) and the logarithm of the statistics' distance; coefficients by level, option and
    labels a class. Options that the records say nothing of are left out; without labels, or with
    nothing to mend, so are all that train.
    """
    e = diagnosis.evidence
    row_name = expectation_row(diagnosis)
    if row_name is None or e.labels is None or e.labels_per_class is None:
        known_accuracies = {"none": e.source_accuracy if e.labels is None else e.labels.accuracy}
        if "input" in diagnosis.levels:
            # By a rule of thumb AdaBN gives back 14 points for ten times the distance, and never more than
            # what the source had.
            gain = 0.14 * log10(max(e.shift.distance, 0.03) / 0.1)
            known_accuracies = {
                "none": e.source_accuracy - max(gain, 0.0),
                "adabn": e.source_accuracy + min(gain, 0.0),
            }
        return {o.name: known_accuracies[o.name] for o in options if o.name in known_accuracies}
    rows = expectations()
    known = [row_name, *reversed(diagnosis.levels)]  # a mixture not met yet: its deepest
    row = next((rows[name] for name in known if name in rows), {"none": {"1": [0.0, 1.0, 0.0, 0.0]}})
    signs = features(e)
    expected = {}
    suited = SUITED.get("moved" if row_name == "moved" else diagnosis.name, tuple(row))
    for option in options:
        if option.role in row and option.role in suited:
            values = {
                int(labels): sum(c * sign for c, sign in zip(coefficients, signs, strict=True))
                for labels, coefficients in row[option.role].items()
            }
            share = interpolated(values, e.labels_per_class)
            expected[option.name] = min(max(share * e.source_accuracy, 0.0), 1.0)
    return expected


def features(e: Evidence) -> tuple[float, float, float, float]:
    """What expectations are linear in: one, accuracy at rest and after AdaBN over the source's, distance."""
    accuracy = 0.0 if e.labels is None else e.labels.accuracy
    adapted = accuracy if e.adabn is None or e.adabn.accuracy is None else e.adabn.accuracy
    source = max(e.source_accuracy, 1e-3)
    return 1.0, accuracy / source, adapted / source, log10(max(e.shift.distance, MIN_DISTANCE))


def interpolated(values: Mapping[int, float], labels_a_class: float) -> float:
    """A value between those at the nearest numbers of labels a class, along their logarithm.

    >>> interpolated({2: 0.0, 10: 0.5, 100: 1.0}, 10), interpolated({2: 0.0, 10: 0.5, 100: 1.0}, 1000)
    (0.5, 1.0)
    """
    known = sorted(values)
    below = max((k for k in known if k <= labels_a_class), default=known[0])
    above = min((k for k in known if k >= labels_a_class), default=known[-1])
    if below >= above:
        return values[above if labels_a_class < known[0] else below]
    at = log10(labels_a_class / below) / log10(above / below)
    return values[below] + at * (values[above] - values[below])


def expectation_row(diagnosis: Diagnosis) -> str | None:
    """The levels, or ``moved`` where statistics moved but no drift that matters is seen; None: at rest.

    Labels that are wrong at random leave nothing to learn, and are a row of their own.
    """
    if not diagnosis.levels:
        return (
            "moved" if diagnosis.verdict == "none" and diagnosis.evidence.shift.z_score >= Z_SCORE else None
        )
    if diagnosis.levels == ("output",) and not remapped(diagnosis.evidence):
        return "random labels"
    return diagnosis.name


def _explanation(
    diagnosis: Diagnosis,
    taken: str,
    expected: Mapping[str, float],
    costs: Mapping[str, Cost],
    excluded: Mapping[str, str],
) -> str:
    found = f"Drift at the {' and '.join(diagnosis.levels)} level" if diagnosis.levels else {
        "none": "No drift, or none that matters",
        "cannot tell": "Too little to tell whether anything drifted",
    }[diagnosis.verdict]  # fmt: skip
    parts = [f"{found} (confidence {100 * diagnosis.confidence:.0f} %): {diagnosis.reasons[0]}."]
    if taken in expected:
        parts.append(
            f"{taken} is expected to give {100 * expected[taken]:.0f} % "
            f"for {costs[taken].cpu_seconds:.1f} s of processor time"
        )
        others = sorted((n for n in expected if n != taken), key=lambda n: -expected[n])[:3]
        if others:
            listed = ", ".join(
                f"{n} {100 * expected[n]:.0f} % for {costs[n].cpu_seconds:.1f} s"
                + (" (beyond the budget)" if n in excluded else "")
                for n in others
            )
            parts[-1] += f"; next are {listed}"
        parts[-1] += "."
    if diagnosis.advice:
        parts.append(f"To be surer, {diagnosis.advice}.")
    return " ".join(parts)
