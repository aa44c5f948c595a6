"""From evidence to the level of drift; all functions are pure.

The rules follow from what each level leaves unchanged. Drift at the output level leaves all statistics of the
inputs exactly as they were. Drift at the feature level moves statistics a little, as other pictures of the
same kind do, and costs accuracy. Drift at the input level moves them by far more than other pictures would.
Labels that mean something else are recognized by their consistency: each predicted class still goes with one
label, but with another one. ``rules.py`` has the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any

from tbft.diagnosis.evidence import MIN_SAMPLES, Evidence
from tbft.diagnosis.reasons import advice, reasons_for
from tbft.diagnosis.rules import (
    ACCURACY_P,
    CONFIDENCE_LOST,
    INPUT_DISTANCE,
    MAPPED_ERRORS,
    UNMENDED_CONFIDENCE,
    Z_SCORE,
    mapped_gain,
    remapped,
    too_few,
    unmended,
)

#: The verdict where there is nothing to compare the samples with.
NOT_DIAGNOSED = "not diagnosed"


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosed drift of a set of samples.

    Attributes:
        levels: ``input``, ``feature``, ``output``, or two of them for mixed drift; if empty, see `verdict`.
        verdict: ``drift``, ``none`` (no drift, or none that matters), ``cannot tell``, or ``not diagnosed``,
            as nothing is known about the source.
        confidence: confidence in the levels, 0 to 1.
        reasons: the evidence in words and numbers, decisive reasons first.
        advice: what would make the diagnosis more certain; None if nothing is needed.
        evidence: the numbers behind the diagnosis.
    """

    levels: tuple[str, ...]
    verdict: str
    confidence: float
    reasons: tuple[str, ...]
    advice: str | None
    evidence: Evidence

    @property
    def name(self) -> str:
        """The levels joined by ``+``, or the verdict where there are none."""
        return "+".join(self.levels) or self.verdict

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "name": self.name}


def diagnose_evidence(e: Evidence) -> Diagnosis:
    """Diagnose the level of drift from evidence.

    >>> from tbft.diagnosis.evidence import Agreement, example_evidence
    >>> diagnose_evidence(example_evidence(shift__distance=0.4, shift__z_score=200.0)).levels
    ('input',)
    >>> diagnose_evidence(example_evidence(labels=Agreement(0.02, 0.0, 0.78, 0.78))).levels
    ('output',)
    """
    if e.shift is None:
        return Diagnosis((), NOT_DIAGNOSED, 0.0, reasons_for(e, ()), advice(e, NOT_DIAGNOSED), e)
    moved = e.z_score >= Z_SCORE
    input_level = moved and e.distance >= INPUT_DISTANCE
    lower = e.labels is not None and e.labels.p_value < ACCURACY_P
    other_labels = remapped(e)
    less_confident = e.confidence.lost >= CONFIDENCE_LOST
    feature_level = lower and not other_labels and not input_level and (moved or less_confident)
    # If statistics and confidence are unchanged, only labels that are wrong at random explain the loss.
    output_level = other_labels or (lower and not moved and not less_confident)
    present = (("input", input_level), ("feature", feature_level), ("output", output_level))
    levels = [level for level, is_present in present if is_present and e.samples >= MIN_SAMPLES]
    verdict = "drift" if levels else "cannot tell" if too_few(e) else "none"
    return Diagnosis(
        levels=tuple(levels),
        verdict=verdict,
        confidence=_confidence(e, verdict, levels),
        reasons=reasons_for(e, levels),
        advice=advice(e, verdict),
        evidence=e,
    )


def _confidence(e: Evidence, verdict: str, levels: Sequence[str]) -> float:
    """How far the deciding numbers are from their thresholds: a logistic function of the smallest margin."""
    margins = [abs(log(max(e.z_score, 0.1) / Z_SCORE))]
    if e.z_score >= Z_SCORE:
        margins.append(abs(log(max(e.distance, 1e-4) / INPUT_DISTANCE)))
    if e.labels is not None and e.distance < INPUT_DISTANCE:
        margins.append(abs(log(max(e.labels.p_value, 1e-9) / ACCURACY_P)) / 3)
    if e.labels is not None:
        margins.append(abs(mapped_gain(e) - MAPPED_ERRORS) / 2)
    confidence = 1 / (1 + exp(-4 * min(margins)))
    if verdict == "cannot tell":
        return 0.5
    confidence *= 1.0 if e.has_card else 0.8
    return min(confidence, UNMENDED_CONFIDENCE) if unmended(e, levels) else confidence
