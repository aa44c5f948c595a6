"""Accuracies expected by the levels of drift: a linear model, fitted on pictures.

The coefficients were measured on the development half of ``benchmarks/shifts.py`` and are stored in
``expectations.json``; ``benchmarks/selector_regret.py --calibrate`` regenerates it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import log10

from tbft.choosing.options import Option
from tbft.diagnosis.evidence import Evidence
from tbft.diagnosis.levels import Diagnosis
from tbft.diagnosis.rules import Z_SCORE, remapped

#: Smaller distances occur with clean samples, so expectations do not follow them further down.
MIN_DISTANCE = 0.01
#: Options worth considering where drift is at one level only; Huang et al. (2024), section 3. A new head
#: for drift at the input level looked good on some development shifts and lost 8 points on others.
SUITED: Mapping[str, tuple[str, ...]] = {
    "input": ("none", "adabn", "front", "middle", "front+head"),
    "output": ("none", "late", "head", "full"),
    "moved": ("none", "adabn", "head"),
}


@cache
def expectations() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Row -> role of the option -> labels per class -> four coefficients; see :func:`expected_accuracies`."""
    text = files("tbft.choosing").joinpath("expectations.json").read_text()
    rows: dict[str, dict[str, dict[str, list[float]]]] = json.loads(text)["rows"]
    return rows


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
            gain = 0.14 * log10(max(e.distance, 0.03) / 0.1)
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
    return 1.0, accuracy / source, adapted / source, log10(max(e.distance, MIN_DISTANCE))


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
        return "moved" if diagnosis.verdict == "none" and diagnosis.evidence.z_score >= Z_SCORE else None
    if diagnosis.levels == ("output",) and not remapped(diagnosis.evidence):
        return "random labels"
    return diagnosis.name
