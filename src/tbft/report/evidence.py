"""The evidence of a diagnosis, in words, numbers and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.inputs import Line
from tbft.report.words import DASH, listed, percent, unbroken


def diagnosis_shown(diagnosis: Mapping[str, Any], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """What the page shows of a diagnosis.

    Args:
        diagnosis: as ``Diagnosis.to_json()`` gives it.
        thresholds: of ``distance`` and ``z_score``, beyond which they speak for drift.
    """
    return {
        "found": f"{found(diagnosis)} (confidence {percent(diagnosis['confidence'], 0)}).",
        "reasons": [_sentence(reason) for reason in diagnosis["reasons"]],
        "advice": diagnosis["advice"],
        "charts": _charts(diagnosis["evidence"], thresholds),
        "table": _table(diagnosis["evidence"], thresholds),
    }


def found(diagnosis: Mapping[str, Any]) -> str:
    """The verdict as a sentence without its end.

    >>> found({"levels": ["input", "output"], "verdict": "drift"})
    'Drift at the input and output level'
    """
    if diagnosis["levels"]:
        return f"Drift at the {listed(list(diagnosis['levels']))} level"
    words = {
        "none": "No drift, or none that matters",
        "cannot tell": "Too little to tell whether anything drifted",
    }
    return words[diagnosis["verdict"]]


def _sentence(text: str) -> str:
    return unbroken(f"{text[0].upper()}{text[1:]}.")


def _readings(e: Mapping[str, Any]) -> dict[str, float | None]:
    """Accuracy under several readings of the same predictions."""
    labels, adabn = e["labels"] or {}, e["adabn"] or {}
    return {
        "as it is": labels.get("accuracy"),
        "after AdaBN": adabn.get("accuracy"),
        "if classes meant\nother labels": labels.get("mapped_accuracy"),
        "the same,\nafter AdaBN": adabn.get("mapped_accuracy"),
        "linear probe\nbefore the head": labels.get("probe_accuracy"),
    }


def _charts(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Picture]:
    made = []
    readings = {name: 100 * value for name, value in _readings(e).items() if value is not None}
    if readings:
        title = f"Accuracy on {e['samples']} labeled samples, %"
        source = 100 * e["source_accuracy"]
        made.append(charts.values(title, readings, source, "on the source", alarm=False))
    shift = e["shift"]
    if shift["blocks"]:
        limit = thresholds.get("distance")
        title = "How far statistics moved, by block"
        made.append(charts.values(title, shift["blocks"], limit, "drift of the inputs beyond", log=True))
    if shift["pixels"]:
        made.append(charts.values("Inputs: change in standard deviations", shift["pixels"]))
    return made


def _table(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Line]:
    def row(name: str, here: str, source: str = DASH, adapted: str = DASH, limit: str = DASH) -> Line:
        return Line((name, here, source, adapted, limit))

    def beyond(name: str) -> str:
        return f"{thresholds[name]:g}" if name in thresholds else DASH

    labels, adabn, confidence, shift = e["labels"] or {}, e["adabn"] or {}, e["confidence"], e["shift"]
    shares = (
        ("accuracy", labels.get("accuracy"), e["source_accuracy"], adabn.get("accuracy")),
        (
            "if each predicted class meant its most frequent label",
            labels.get("mapped_accuracy"),
            e["source_mapped_accuracy"],
            adabn.get("mapped_accuracy"),
        ),
        ("of a linear probe before the head", labels.get("probe_accuracy"), None, None),
        ("mean confidence", confidence["mean"], confidence["source"], adabn.get("confidence")),
    )
    rows = [row(name, *(percent(value) for value in values)) for name, *values in shares]
    distance = f"distance of statistics per channel, at {shift['layer']}"
    rows.append(row(distance, f"{shift['distance']:.3f}", limit=beyond("distance")))
    scores = "the same, in standard deviations of clean samples"
    rows.append(row(scores, f"{shift['z_score']:,.1f}", limit=beyond("z_score")))
    if labels:
        rows.append(row("chance of so few right at the source's accuracy", chance(labels["p_value"])))
    return [one for one in rows if any(cell != DASH for cell in one.cells[1:])]


def chance(probability: float) -> str:
    """A probability; the very small ones are not told apart.

    >>> chance(3e-94), chance(0.0321)
    ('< 10⁻⁶', '0.032')
    """
    return f"{probability:.2g}" if probability >= 1e-6 else "< 10⁻⁶"
