"""The evidence of a diagnosis, in words, numbers and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.inputs import Line
from tbft.report.words import DASH, confidence_words, listed, nonbreaking, percent


def diagnosis_shown(diagnosis: Mapping[str, Any], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """A diagnosis as the page shows it.

    Args:
        diagnosis: the values of ``Diagnosis.to_json()``.
        thresholds: ``distance`` and ``z_score`` -> value beyond which they indicate drift.
    """
    return {
        "verdict": nonbreaking(f"{verdict_words(diagnosis)}{confidence_words(diagnosis)}."),
        "reasons": [_sentence(reason) for reason in diagnosis["reasons"]],
        "advice": diagnosis["advice"],
        "charts": _charts(diagnosis["evidence"], thresholds),
        "table": _table(diagnosis["evidence"], thresholds),
    }


def verdict_words(diagnosis: Mapping[str, Any]) -> str:
    """The verdict as a sentence without a period.

    >>> verdict_words({"levels": ["input", "output"], "verdict": "drift"})
    'Drift at the input and output level'
    """
    if diagnosis["levels"]:
        return f"Drift at the {listed(list(diagnosis['levels']))} level"
    words = {
        "none": "No drift, or none that matters",
        "cannot tell": "Too little data to tell whether anything drifted",
        "not diagnosed": "The level of drift was not diagnosed",
    }
    return words[diagnosis["verdict"]]


def _sentence(text: str) -> str:
    return nonbreaking(f"{text[0].upper()}{text[1:]}.")


def _readings(e: Mapping[str, Any]) -> dict[str, float | None]:
    """Accuracy for several interpretations of the same predictions."""
    labels, adabn = e["labels"] or {}, e["adabn"] or {}
    return {
        "before adaptation": labels.get("accuracy"),
        "after AdaBN": adabn.get("accuracy"),
        "if classes meant\nother labels": labels.get("mapped_accuracy"),
        "the same,\nafter AdaBN": adabn.get("mapped_accuracy"),
        "linear probe\nbefore the head": labels.get("probe_accuracy"),
    }


def _charts(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Picture]:
    pictures = []
    readings = {name: 100 * value for name, value in _readings(e).items() if value is not None}
    shift = e["shift"]
    if readings:
        title = f"Accuracy on {e['samples']} labeled samples, %"
        source = None if shift is None else 100 * e["source_accuracy"]
        pictures.append(charts.values(title, readings, source, "on the source", alarm=False))
    if shift is None:
        return pictures
    if shift["blocks"]:
        limit = thresholds.get("distance")
        title = "How far statistics moved, by block"
        pictures.append(charts.values(title, shift["blocks"], limit, "drift of the inputs beyond", log=True))
    if shift["pixels"]:
        pictures.append(charts.values("Inputs: change in standard deviations", shift["pixels"]))
    return pictures


def _table(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Line]:
    def row(name: str, here: str, source: str = DASH, adapted: str = DASH, limit: str = DASH) -> Line:
        return Line((name, here, source, adapted, limit))

    def beyond(name: str) -> str:
        return f"{thresholds[name]:g}" if name in thresholds else DASH

    labels, adabn, confidence, shift = e["labels"] or {}, e["adabn"] or {}, e["confidence"], e["shift"]
    source = {} if shift is None else e  # without a shift, nothing is known about the source
    of_source = confidence["source"] if source else None
    shares = (
        ("accuracy", labels.get("accuracy"), source.get("source_accuracy"), adabn.get("accuracy")),
        (
            "if each predicted class meant its most frequent label",
            labels.get("mapped_accuracy"),
            source.get("source_mapped_accuracy"),
            adabn.get("mapped_accuracy"),
        ),
        ("accuracy of a linear probe before the head", labels.get("probe_accuracy"), None, None),
        (
            "mean confidence",
            confidence["mean"],
            of_source,
            adabn.get("confidence"),
        ),
    )
    shown = shares if e["has_classes"] else ()
    rows = [row(name, *(percent(value) for value in values)) for name, *values in shown]
    if shift is not None:
        distance = f"distance of statistics per channel, at {shift['layer']}"
        rows.append(row(distance, f"{shift['distance']:.3f}", limit=beyond("distance")))
        scores = "the same, in standard deviations of clean samples"
        rows.append(row(scores, f"{shift['z_score']:,.1f}", limit=beyond("z_score")))
    if labels and shift is not None:
        name = "probability of so few correct at the source's accuracy"
        rows.append(row(name, probability(labels["p_value"])))
    return [line for line in rows if any(cell != DASH for cell in line.cells[1:])]


def probability(value: float) -> str:
    """A probability in words; very small ones are only bounded.

    >>> probability(3e-94), probability(0.0321)
    ('< 10⁻⁶', '0.032')
    """
    return f"{value:.2g}" if value >= 1e-6 else "< 10⁻⁶"
