"""The choice in words: what was tried, what was only expected, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping

from tbft.choosing.cost import Cost
from tbft.choosing.estimates import Estimate
from tbft.choosing.trials import SOLVED_FOLDS, Trials
from tbft.diagnosis.levels import NOT_DIAGNOSED, Diagnosis

#: How many of the other options are named.
_NAMED = 3


def explain(
    diagnosis: Diagnosis,
    chosen: str,
    estimates: Mapping[str, Estimate],
    costs: Mapping[str, Cost],
    excluded: Mapping[str, str],
    trials: Trials,
) -> str:
    """One paragraph."""
    confidence = (
        "" if diagnosis.verdict == NOT_DIAGNOSED else f" (confidence {100 * diagnosis.confidence:.0f} %)"
    )
    parts = [f"{_verdict(diagnosis)}{confidence}: {diagnosis.reasons[0]}."]
    if tried := [name for name in trials.options if name in estimates]:
        parts.append(
            f"{_count(len(tried), 'option')} {'was' if len(tried) == 1 else 'were'} tried on the labels, in "
            f"{trials.fold_count} folds (heads in closed form in up to {SOLVED_FOLDS}), for "
            f"{trials.cpu_seconds:.1f} s of processor time; what is said of the others is only expected."
        )
    elif diagnosis.evidence.labels is not None:
        parts.append("No option was tried on the labels; all figures are only expected.")
    if diagnosis.evidence.has_classes:
        parts.append(_expected(chosen, estimates, costs, excluded))
    else:
        parts.append("Options are weighed by the level; what they reach is only predicted for class labels.")
    if diagnosis.advice:
        parts.append(f"To be more confident, {diagnosis.advice}.")
    return " ".join(parts)


def _expected(
    chosen: str, estimates: Mapping[str, Estimate], costs: Mapping[str, Cost], excluded: Mapping[str, str]
) -> str:
    """What the chosen option and those next to it are expected to reach, and for what."""
    seconds = costs[chosen].cpu_seconds
    sentence = (
        f"{chosen} is expected to reach {_reached(estimates[chosen])} for {seconds:.1f} s of processor time"
    )
    others = sorted((n for n in estimates if n != chosen), key=lambda n: -estimates[n].accuracy)[:_NAMED]
    if others:
        listed = (
            f"{n} {_reached(estimates[n])} for {costs[n].cpu_seconds:.1f} s"
            + (" (beyond the budget)" if n in excluded else "")
            for n in others
        )
        sentence += f"; next are {', '.join(listed)}"
    return f"{sentence}."


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.levels:
        return f"Drift at the {' and '.join(diagnosis.levels)} level"
    return {
        "none": "No drift, or none that matters",
        "cannot tell": "Too little data to tell whether anything drifted",
        NOT_DIAGNOSED: "The level of drift was not diagnosed",
    }[diagnosis.verdict]


def _reached(e: Estimate) -> str:
    """An expected accuracy, with the measured one where the option was tried.

    >>> _reached(Estimate(0.81, 0.03, 1.0, 0.78, tried=50, measured=0.84))
    '81 ± 3 % (84 % when tried)'
    """
    text = f"{100 * e.accuracy:.0f} ± {100 * e.spread:.0f} %" if e.spread else f"{100 * e.accuracy:.0f} %"
    return text if e.measured is None else f"{text} ({100 * e.measured:.0f} % when tried)"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
