"""The evidence of a diagnosis, in words, numbers and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.inputs import Line
from tbft.report.words import DASH, listed, percent, unbroken

#: Accuracy under several readings of the same predictions: key of the evidence, and what it is.
READINGS = (
    ("accuracy", "as it is"),
    ("adabn_accuracy", "after AdaBN"),
    ("mapped_accuracy", "if classes meant\nother labels"),
    ("adabn_mapped_accuracy", "the same,\nafter AdaBN"),
    ("probe_accuracy", "linear probe\nbefore the head"),
)


def diagnosis_shown(diagnosis: Mapping[str, Any], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """What the page shows of a diagnosis.

    Args:
        diagnosis: as ``Diagnosis.to_json()`` gives it.
        thresholds: of ``distance`` and ``strays``, beyond which they speak for drift.
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


def _charts(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Picture]:
    made = []
    readings = {name: 100 * e[key] for key, name in READINGS if e[key] is not None}
    if readings:
        title = f"Accuracy on {e['samples']} labeled samples, %"
        source = 100 * e["source_accuracy"]
        made.append(charts.values(title, readings, source, "on the source", alarm=False))
    if e["block_distances"]:
        limit = thresholds.get("distance")
        title = "How far statistics moved, by block"
        made.append(charts.values(title, e["block_distances"], limit, "drift of the inputs beyond", log=True))
    if e["pixels"]:
        made.append(charts.values("Pixels: change in standard deviations", e["pixels"]))
    return made


def _table(e: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[Line]:
    def row(name: str, here: str, source: str = DASH, adapted: str = DASH, limit: str = DASH) -> Line:
        return Line((name, here, source, adapted, limit))

    def beyond(name: str) -> str:
        return f"{thresholds[name]:g}" if name in thresholds else DASH

    shares = (
        ("accuracy", "accuracy", "source_accuracy", "adabn_accuracy"),
        (
            "if each predicted class meant its most frequent label",
            "mapped_accuracy",
            "source_mapped_accuracy",
            "adabn_mapped_accuracy",
        ),
        ("of the surer half", "confident_accuracy", None, None),
        ("of a linear probe before the head", "probe_accuracy", None, None),
        ("mean confidence", "confidence", "source_confidence", "adabn_confidence"),
        ("predictions that AdaBN leaves as they are", None, None, "adabn_agreement"),
    )
    rows = [row(name, *(percent(e[key]) if key else DASH for key in keys)) for name, *keys in shares]
    place = f"distance of statistics a channel, at {e['place']}"
    rows.append(row(place, f"{e['distance']:.3f}", limit=beyond("distance")))
    strays = "the same, in standard deviations of clean samples"
    rows.append(row(strays, f"{e['strays']:,.1f}", limit=beyond("strays")))
    if e["accuracy_p"] is not None:
        rows.append(row("chance of so few right at the source's accuracy", chance(e["accuracy_p"])))
    return [one for one in rows if any(cell != DASH for cell in one.cells[1:])]


def chance(probability: float) -> str:
    """A probability; the very small ones are not told apart.

    >>> chance(3e-94), chance(0.0321)
    ('< 10⁻⁶', '0.032')
    """
    return f"{probability:.2g}" if probability >= 1e-6 else "< 10⁻⁶"
