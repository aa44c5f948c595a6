"""From a diagnosis, costs and a budget to a plan: pure functions, no tensors.

Each option gets an expected accuracy from the evidence. Options beyond the budget are excluded, and the
cheapest of those whose expected accuracy is within a tolerance of the best is chosen. The expectations were
measured on the development half of ``benchmarks/shifts.py`` and are stored in ``expectations.json``;
``benchmarks/selector_regret.py --calibrate`` regenerates it.
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

#: Options whose expected accuracies differ by less than this count as equally good: the cheaper is chosen.
TOLERANCE = 0.005
#: Smaller distances occur with clean samples, so expectations do not follow them further down.
MIN_DISTANCE = 0.01
#: Costs up to this many times the lowest count as equal: among those, the most accurate option is chosen.
EQUAL_COST = 1.1

#: Options worth considering where drift is at one level only; Huang et al. (2024), section 3. A new head
#: for drift at the input level looked good on some development shifts and lost 8 points on others.
SUITED: Mapping[str, tuple[str, ...]] = {
    "input": ("none", "adabn", "front", "middle", "front+head"),
    "output": ("none", "late", "head", "full"),
    "moved": ("none", "adabn", "head"),
}


@dataclass(frozen=True)
class Choice:
    """The chosen option, and why it was chosen.

    Attributes:
        plan: the plan to carry out.
        option: name of the chosen option.
        expected_accuracies: option -> expected accuracy, 0 to 1.
        costs: option -> predicted cost.
        excluded: option -> the budget that it exceeds.
        contenders: affordable options within the tolerance of the best; more than one is a tie.
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
    """Row -> role of the option -> labels per class -> four coefficients; see :func:`expected_accuracies`."""
    text = files("tbft.choosing").joinpath("expectations.json").read_text()
    rows: dict[str, dict[str, dict[str, list[float]]]] = json.loads(text)["rows"]
    return rows


def choose(
    diagnosis: Diagnosis,
    options: Sequence[Option],
    plans: Mapping[str, Plan],
    costs: Mapping[str, Cost],
    budget: Budget | None = None,
    left: str = "",
) -> Choice:
    """Choose the cheapest affordable option whose expected accuracy is within the tolerance of the best.

    Args:
        plans, costs: option -> plan and its predicted cost; options without a cost are ignored.
        left: words to put after an exceeded budget, for example " left after choosing".

    Raises:
        PlanError: there is an energy budget, but no cost has an energy figure.
    """
    budget = budget or Budget()
    check_energy_known(costs.values(), budget)
    excluded = {name: reason for name, cost in costs.items() if (reason := beyond(cost, budget, left))}
    expected = expected_accuracies(diagnosis, [option for option in options if option.name in costs])
    affordable = {name: value for name, value in expected.items() if name not in excluded}
    best = max(affordable.values())
    contenders = [name for name, value in affordable.items() if value >= best - TOLERANCE]
    min_seconds = min(costs[name].cpu_seconds for name in contenders)
    cheapest = [name for name in contenders if costs[name].cpu_seconds <= EQUAL_COST * min_seconds]
    chosen = max(cheapest, key=lambda name: expected[name])
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
    """Raise PlanError if there is an energy budget, but no cost has an energy figure."""
    if budget.joules is not None and all(cost.energy_joules is None for cost in costs):
        raise PlanError(
            "a budget in joules needs an energy estimate, and there is none without a profile of this board: "
            "give one with --profile, or a budget in seconds"
        )


def beyond(cost: Cost, budget: Budget, left: str = "") -> str | None:
    """Which budget a cost exceeds, in words; None if it exceeds none.

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
    """Option -> accuracy expected from the evidence, 0 to 1.

    The accuracy relative to the source's is modeled as linear in the accuracy before adaptation and after
    AdaBN (both relative to the source's) and in the logarithm of the statistics' distance. The coefficients
    depend on the level, the option and the number of labels per class. Options without records are left out.
    So are all options that train, where there are no labels or nothing drifted.
    """
    e = diagnosis.evidence
    row_name = expectation_row(diagnosis)
    if row_name is None or e.labels is None or e.labels_per_class is None:
        known_accuracies = {"none": e.source_accuracy if e.labels is None else e.labels.accuracy}
        if "input" in diagnosis.levels:
            # Rule of thumb: AdaBN recovers 14 points for each factor of ten in distance, and never exceeds
            # the source's accuracy.
            gain = 0.14 * log10(max(e.shift.distance, 0.03) / 0.1)
            known_accuracies = {
                "none": e.source_accuracy - max(gain, 0.0),
                "adabn": e.source_accuracy + min(gain, 0.0),
            }
        return {o.name: known_accuracies[o.name] for o in options if o.name in known_accuracies}
    rows = expectations()
    row_names = [row_name, *reversed(diagnosis.levels)]  # for a mixture without a row: its deepest level
    row = next((rows[name] for name in row_names if name in rows), {"none": {"1": [0.0, 1.0, 0.0, 0.0]}})
    inputs = features(e)
    expected = {}
    suited = SUITED.get("moved" if row_name == "moved" else diagnosis.name, tuple(row))
    for option in options:
        if option.role in row and option.role in suited:
            values = {
                int(labels): sum(c * x for c, x in zip(coefficients, inputs, strict=True))
                for labels, coefficients in row[option.role].items()
            }
            relative = interpolated(values, e.labels_per_class)
            expected[option.name] = min(max(relative * e.source_accuracy, 0.0), 1.0)
    return expected


def features(e: Evidence) -> tuple[float, float, float, float]:
    """What expectations are linear in: the constant 1, accuracy before adaptation and after AdaBN relative to
    the source's, and the decimal logarithm of the distance.
    """
    accuracy = 0.0 if e.labels is None else e.labels.accuracy
    adapted = accuracy if e.adabn is None or e.adabn.accuracy is None else e.adabn.accuracy
    source = max(e.source_accuracy, 1e-3)
    return 1.0, accuracy / source, adapted / source, log10(max(e.shift.distance, MIN_DISTANCE))


def interpolated(values: Mapping[int, float], labels_per_class: float) -> float:
    """Interpolate between the values at the nearest numbers of labels per class, on a logarithmic scale.

    >>> interpolated({2: 0.0, 10: 0.5, 100: 1.0}, 10), interpolated({2: 0.0, 10: 0.5, 100: 1.0}, 1000)
    (0.5, 1.0)
    """
    known = sorted(values)
    below = max((k for k in known if k <= labels_per_class), default=known[0])
    above = min((k for k in known if k >= labels_per_class), default=known[-1])
    if below >= above:
        return values[above if labels_per_class < known[0] else below]
    weight = log10(labels_per_class / below) / log10(above / below)
    return values[below] + weight * (values[above] - values[below])


def expectation_row(diagnosis: Diagnosis) -> str | None:
    """The levels, or ``moved`` where statistics moved without drift that matters; None: nothing moved.

    Labels that are wrong at random leave nothing to learn and have a row of their own.
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
    chosen: str,
    expected: Mapping[str, float],
    costs: Mapping[str, Cost],
    excluded: Mapping[str, str],
) -> str:
    verdict = f"Drift at the {' and '.join(diagnosis.levels)} level" if diagnosis.levels else {
        "none": "No drift, or none that matters",
        "cannot tell": "Too little data to tell whether anything drifted",
    }[diagnosis.verdict]  # fmt: skip
    parts = [f"{verdict} (confidence {100 * diagnosis.confidence:.0f} %): {diagnosis.reasons[0]}."]
    if chosen in expected:
        parts.append(
            f"{chosen} is expected to reach {100 * expected[chosen]:.0f} % "
            f"for {costs[chosen].cpu_seconds:.1f} s of processor time"
        )
        others = sorted((n for n in expected if n != chosen), key=lambda n: -expected[n])[:3]
        if others:
            listed = ", ".join(
                f"{n} {100 * expected[n]:.0f} % for {costs[n].cpu_seconds:.1f} s"
                + (" (beyond the budget)" if n in excluded else "")
                for n in others
            )
            parts[-1] += f"; next are {listed}"
        parts[-1] += "."
    if diagnosis.advice:
        parts.append(f"To be more confident, {diagnosis.advice}.")
    return " ".join(parts)
