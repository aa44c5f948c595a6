"""From a diagnosis, costs and a budget to a plan: pure, no tensors.

Every option is given the accuracy that the evidence lets expect; those beyond the budget are left out,
and of those that promise the best, within a tolerance, the cheapest is taken. What an option wins back
of the accuracy that drift took, by level and labels a class, was measured on the development half of
``benchmarks/shifts.py``; ``benchmarks/selector_regret.py --calibrate`` prints it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log10
from typing import Any

from tbft.cost import Cost
from tbft.diagnosis import Diagnosis, mapped_gain
from tbft.errors import PlanError
from tbft.evidence import Evidence
from tbft.plan import Budget, Plan, Recipe

#: Options whose expected accuracies differ by less are as good as each other: the cheaper is taken.
TOLERANCE = 0.005
#: Standard error that the rule of thumb below, AdaBN's gain by distance, is given.
_THUMB_ERROR = 0.08


@dataclass(frozen=True)
class Option:
    """Something one can do: what is tuned, and what becomes of the statistics."""

    name: str  # none, adabn, the name of a block, head, adabn+head, front+head, full
    arm: str
    source_share: float | None  # of AdaBN; 1 keeps the source's, None goes by the number of samples
    role: str  # as the name, but front, middle and late for blocks, whatever a model calls them

    def plan(self, recipe: Recipe, level: str | None, seed: int, budget: Budget) -> Plan:
        """The plan that does it."""
        return Plan(self.arm, recipe, level, self.source_share, seed, budget)


def options_of(block_names: Sequence[str], head: str, batch_norm: bool) -> tuple[Option, ...]:
    """What can be done with a model.

    Args:
        head: the last layer's name, or the rear block's.
        batch_norm: whether it has statistics that AdaBN could adapt.

    >>> [option.name for option in options_of(["front", "layer2", "rear"], "fc", True)]
    ['none', 'adabn', 'front', 'layer2', 'head', 'adabn+head', 'front+head', 'full']
    """
    share = None if batch_norm else 1.0
    found = [Option("none", "none", 1.0, "none")]
    if batch_norm:
        found.append(Option("adabn", "adabn", None, "adabn"))
    for k, name in enumerate(block_names[:-1]):
        role = "front" if k == 0 else "late" if k == len(block_names) - 2 else "middle"
        found.append(Option(name, name, share, role))
    found.append(Option("head", head, 1.0, "head"))
    if batch_norm:
        found.append(Option("adabn+head", head, None, "adabn+head"))
    if len(block_names) > 1:
        found.append(Option("front+head", f"{block_names[0]}+{head}", share, "front+head"))
    return (*found, Option("full", "full", share, "full"))


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
            "arm": self.plan.arm,
            "diagnosis": self.diagnosis.to_json(),
            "expected_accuracies": dict(self.expected_accuracies),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "excluded": dict(self.excluded),
            "contenders": list(self.contenders),
            "explanation": self.explanation,
        }


#: Level -> option -> share of the lost accuracy that it wins back, at 2, 10 and 100 labels a class.
#: "Lost" counts from accuracy after AdaBN, for `head` and for the output level from accuracy at rest.
WON_BACK: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "input": {
        "front": (-0.20, 0.05, 0.70),
        "middle": (-0.40, -0.16, 0.30),
        "late": (-0.80, -0.60, 0.07),
        "head": (0.00, 0.20, 0.40),
        "adabn+head": (-0.40, -0.25, 0.17),
        "front+head": (-0.30, 0.01, 0.67),
        "full": (-1.20, -0.85, 0.06),
    },
}
#: An option that the table says nothing of.
NEVER = (-1.0, -1.0, -1.0)


def choose(
    diagnosis: Diagnosis,
    options: Sequence[Option],
    costs: Mapping[str, Cost],
    recipe: Recipe,
    budget: Budget | None = None,
    seed: int = 0,
) -> Choice:
    """The cheapest option that promises the best accuracy, within the budget.

    Args:
        costs: option -> predicted cost; options without one are left out.

    Raises:
        PlanError: a budget of energy, but costs without an energy figure.
    """
    budget = budget or Budget()
    if budget.joules is not None and all(cost.energy_joules is None for cost in costs.values() if cost.flops):
        raise PlanError(
            "a budget in joules needs an energy figure, and nothing here can give one: "
            "no sensor and no profile of this board; give a budget in seconds"
        )
    excluded = {name: reason for name, cost in costs.items() if (reason := beyond(cost, budget))}
    expected = expected_accuracies(diagnosis, [option for option in options if option.name in costs])
    open_to = {name: value for name, value in expected.items() if name not in excluded}
    best = max(open_to.values())
    contenders = [name for name, value in open_to.items() if value >= best - TOLERANCE]
    taken = min(contenders, key=lambda name: costs[name].cpu_seconds)
    option = next(option for option in options if option.name == taken)
    level = diagnosis.name if diagnosis.levels else "none"
    return Choice(
        plan=option.plan(recipe, level, seed, budget),
        option=taken,
        diagnosis=diagnosis,
        expected_accuracies=expected,
        costs=dict(costs),
        excluded=excluded,
        contenders=tuple(contenders),
        explanation=_explanation(diagnosis, taken, expected, costs, excluded),
    )


def beyond(cost: Cost, budget: Budget) -> str | None:
    """Which budget a cost exceeds, in words; None if none.

    >>> beyond(Cost(1e12, 6.0, 80_000), Budget(cpu_seconds=5))
    '6.0 s of processor time, more than 5.0 s'
    """
    if budget.cpu_seconds is not None and cost.cpu_seconds > budget.cpu_seconds:
        return f"{cost.cpu_seconds:.1f} s of processor time, more than {budget.cpu_seconds:.1f} s"
    if budget.joules is not None and cost.energy_joules is not None and cost.energy_joules > budget.joules:
        return f"{cost.energy_joules:.1f} J, more than {budget.joules:.1f} J"
    least = cost.least_bytes or 0
    if budget.peak_bytes is not None and least > budget.peak_bytes:
        return f"at least {least / 2**20:.1f} MiB, more than {budget.peak_bytes / 2**20:.1f} MiB"
    return None


def expected_accuracies(diagnosis: Diagnosis, options: Sequence[Option]) -> dict[str, float]:
    """Option -> accuracy that the evidence lets expect, 0 to 1."""
    e = diagnosis.evidence
    rest, adapted = before_tuning(e)
    table = WON_BACK.get(_row(diagnosis), {})
    expected = {}
    for option in options:
        if option.name in ("none", "adabn"):
            expected[option.name] = rest if option.name == "none" else adapted
            continue
        if not diagnosis.levels or e.labelled_a_class is None:
            continue  # nothing to mend, or nothing to mend it by
        base = rest if option.name == "head" or "output" in diagnosis.levels else adapted
        share = interpolated(table.get(option.role, NEVER), e.labelled_a_class)
        expected[option.name] = base + share * max(e.source_accuracy - base, 0.05)
    if not diagnosis.levels:
        expected = {name: value for name, value in expected.items() if name == "none"}
    return expected


def before_tuning(e: Evidence) -> tuple[float, float]:
    """Accuracy at rest and after AdaBN, from labels as far as they tell and from the statistics.

    The difference between the two is measured on few samples; it is weighed against a rule of thumb,
    14 points for ten times the distance from a tenth on, by their variances.
    """
    rest = e.source_accuracy if e.accuracy is None else e.accuracy
    thumb = 0.14 * log10(max(e.distance, 0.03) / 0.1)
    if e.adabn_accuracy is None or e.accuracy is None:
        return rest, rest + (thumb if e.adabn_agreement is not None else 0.0)
    measured = e.adabn_accuracy - e.accuracy
    variance = max(1 - (e.adabn_agreement or 1.0), 0.02) / e.samples
    weight = _THUMB_ERROR**2 / (_THUMB_ERROR**2 + variance)
    return rest, rest + weight * measured + (1 - weight) * thumb


def interpolated(shares: tuple[float, float, float], labels_a_class: float) -> float:
    """A share between those at 2, 10 and 100 labels a class, along their logarithm.

    >>> interpolated((0.0, 0.5, 1.0), 10), interpolated((0.0, 0.5, 1.0), 1000)
    (0.5, 1.0)
    """
    two, ten, hundred = shares
    if labels_a_class <= 10:
        at = max(0.0, (log10(max(labels_a_class, 1e-3)) - log10(2)) / (1 - log10(2)))
        return two + at * (ten - two)
    return ten + min(1.0, log10(labels_a_class) - 1) * (hundred - ten)


def _row(diagnosis: Diagnosis) -> str:
    """Labels that are wrong at random leave nothing to learn: a row of its own."""
    if diagnosis.levels == ("output",) and mapped_gain(diagnosis.evidence) <= 0:
        return "random labels"
    return "+".join(level for level in diagnosis.levels if level != "feature" or len(diagnosis.levels) == 1)


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
                + (f" (beyond the budget: {excluded[n]})" if n in excluded else "")
                for n in others
            )
            parts[-1] += f"; next are {listed}"
        parts[-1] += "."
    if diagnosis.advice:
        parts.append(f"To be surer, {diagnosis.advice}.")
    return " ".join(parts)
