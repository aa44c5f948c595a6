"""From evidence to the level of drift; all functions but :func:`diagnose_samples` are pure.

The rules follow from what each level leaves unchanged. Drift at the output level leaves all statistics of the
inputs exactly as they were. Drift at the feature level moves statistics a little, as other pictures of the
same kind do, and costs accuracy. Drift at the input level moves them by far more than other pictures would.
Labels that mean something else are recognized by their consistency: each predicted class still goes with one
label, but with another one.

The constants below were set on the development half of ``benchmarks/shifts.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import exp, log, sqrt
from typing import Any

from tbft.blocks import Blocks
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.evidence import MIN_SAMPLES, Evidence, gather
from tbft.diagnosis.observation import BATCH_SIZE
from tbft.verification.binomial import binomial_cdf

#: Distance beyond which statistics moved more than other pictures of the same kind would move them: between
#: the 0.012 of unseen subclasses and the 0.023 of the weakest corruption of severity 3.
INPUT_DISTANCE = 0.017
#: z-score beyond which statistics moved at all; the maximum is over some 25 layers, so it is more than 3.
Z_SCORE = 4.5
#: p-value below which accuracy counts as lower than on the source.
ACCURACY_P = 0.001
#: Loss of confidence in standard errors, beyond which the model counts as less confident than on the source.
#: Two in a hundred draws of clean samples exceed it, as the card is a sample too. Unseen subclasses show 3.2
#: and more.
CONFIDENCE_LOST = 2.5
#: Minimum gain from mapping predictions to their most frequent labels, in standard errors.
MAPPED_ERRORS = 3.0
#: Minimum share of the source's accuracy after AdaBN if only the inputs drifted, and the p-value below which
#: that is ruled out.
MIN_AFTER_ADABN, CONTRADICTED_P = 0.45, 0.002
#: With too few labels to detect a loss this large, "no drift" does not prove "no loss".
LOSS_THAT_MATTERS = 0.15
#: Share of the lost accuracy that AdaBN gives back in nine of ten corruptions, and the confidence in the
#: input level where it gives back less: the feature level is then as likely.
MIN_MENDED, UNMENDED_CONFIDENCE = 0.1, 0.5


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosed drift of a set of samples.

    Attributes:
        levels: ``input``, ``feature``, ``output``, or two of them for mixed drift; if empty, see `verdict`.
        verdict: ``drift``, ``none`` (no drift, or none that matters), or ``cannot tell``.
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


def diagnose_samples(
    blocks: Blocks,
    samples: Samples,
    card: SourceCard | None = None,
    labeled: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Diagnosis:
    """Diagnose the level of drift from samples; the model is not changed.

    Args:
        samples: target samples; at most 256 of them are used.
        card: source card of this model, see :func:`tbft.build_card`; without one the diagnosis is weaker.
        labeled: whether to use the labels; without them, drift at the output level cannot be detected.
        batch_size: batch size of the forward passes; smaller batches take less memory.

    Raises:
        CardError, DataError: the card belongs to another model, or there are no samples.
    """
    return diagnose_evidence(gather(blocks, samples, card, labeled, batch_size=batch_size))


def diagnose_evidence(e: Evidence) -> Diagnosis:
    """Diagnose the level of drift from evidence.

    >>> from tbft.diagnosis.evidence import Agreement, example_evidence
    >>> diagnose_evidence(example_evidence(shift__distance=0.4, shift__z_score=200.0)).levels
    ('input',)
    >>> diagnose_evidence(example_evidence(labels=Agreement(0.02, 0.0, 0.78, 0.78))).levels
    ('output',)
    """
    moved = e.shift.z_score >= Z_SCORE
    input_level = moved and e.shift.distance >= INPUT_DISTANCE
    lower = e.labels is not None and e.labels.p_value < ACCURACY_P
    other_labels = remapped(e)
    less_confident = e.confidence.lost >= CONFIDENCE_LOST
    feature_level = lower and not other_labels and not input_level and (moved or less_confident)
    # If statistics and confidence are unchanged, only labels that are wrong at random explain the loss.
    output_level = other_labels or (lower and not moved and not less_confident)
    present = (("input", input_level), ("feature", feature_level), ("output", output_level))
    levels = [level for level, is_present in present if is_present and e.samples >= MIN_SAMPLES]
    verdict = "drift" if levels else "cannot tell" if _too_few(e) else "none"
    return Diagnosis(
        levels=tuple(levels),
        verdict=verdict,
        confidence=_confidence(e, verdict, levels),
        reasons=(*_decisive_first(list(_reasons(e)), levels), *_doubts(e, levels)),
        advice=_advice(e, verdict),
        evidence=e,
    )


def remapped(e: Evidence) -> bool:
    """Whether labels mean something else, rather than being wrong at random."""
    return mapped_gain(e) >= MAPPED_ERRORS or contradicted(e)


def mapped_gain(e: Evidence) -> float:
    """Gain from mapping predictions to their most frequent labels, in standard errors, at least 0.

    It is the larger of the gains before and after AdaBN, minus the gain on the source, which is positive if
    the model has not learned to separate its classes.
    """
    usual = max(0.0, e.source_mapped_accuracy - e.source_accuracy)
    readings: list[tuple[float | None, float | None, int]] = []
    if e.labels is not None:
        readings.append((e.labels.accuracy, e.labels.mapped_accuracy, e.samples))
    if e.adabn is not None and e.shift.z_score >= Z_SCORE:
        readings.append((e.adabn.accuracy, e.adabn.mapped_accuracy, e.adabn.samples))
    gains = [
        (mapped - plain - usual) / sqrt(max(mapped * (1 - mapped), 0.05) / count)
        for plain, mapped, count in readings
        if plain is not None and mapped is not None
    ]
    return max([0.0, *gains])


def contradicted(e: Evidence) -> bool:
    """Whether accuracy after AdaBN is lower than any drift of the inputs alone was observed to leave."""
    if e.adabn is None or e.adabn.accuracy is None or e.shift.z_score < Z_SCORE:
        return False
    right = round(e.adabn.accuracy * e.adabn.samples)
    return binomial_cdf(right, e.adabn.samples, MIN_AFTER_ADABN * e.source_accuracy) < CONTRADICTED_P


def unmended(e: Evidence, levels: Sequence[str]) -> bool:
    """Whether AdaBN gives back next to nothing of what drift at the input level alone has cost.

    Nine in ten corruptions of pictures are mended by more. Drift that changes what the pictures show, such as
    drawings instead of photos, moves statistics as far, and is not mended.
    """
    if tuple(levels) != ("input",) or e.labels is None or e.adabn is None or e.adabn.accuracy is None:
        return False
    lost = e.source_accuracy - e.labels.accuracy
    return lost > LOSS_THAT_MATTERS and e.adabn.accuracy - e.labels.accuracy < MIN_MENDED * lost


def _too_few(e: Evidence) -> bool:
    """Whether a loss that matters could hide behind so few labels."""
    if e.labels is None or e.samples < MIN_SAMPLES:
        return True
    error = sqrt(e.source_accuracy * (1 - e.source_accuracy) / e.samples)
    return e.source_accuracy - e.labels.accuracy + 1.64 * error > LOSS_THAT_MATTERS


def _confidence(e: Evidence, verdict: str, levels: Sequence[str]) -> float:
    """How far the deciding numbers are from their thresholds: a logistic function of the smallest margin."""
    margins = [abs(log(max(e.shift.z_score, 0.1) / Z_SCORE))]
    if e.shift.z_score >= Z_SCORE:
        margins.append(abs(log(max(e.shift.distance, 1e-4) / INPUT_DISTANCE)))
    if e.labels is not None and e.shift.distance < INPUT_DISTANCE:
        margins.append(abs(log(max(e.labels.p_value, 1e-9) / ACCURACY_P)) / 3)
    if e.labels is not None:
        margins.append(abs(mapped_gain(e) - MAPPED_ERRORS) / 2)
    confidence = 1 / (1 + exp(-4 * min(margins)))
    if verdict == "cannot tell":
        return 0.5
    confidence *= 1.0 if e.has_card else 0.8
    return min(confidence, UNMENDED_CONFIDENCE) if unmended(e, levels) else confidence


def _decisive_first(reasons: list[str], levels: list[str]) -> tuple[str, ...]:
    """Order the reasons: statistics decide the input level, labels the others."""
    return tuple(reasons if not levels or levels == ["input"] else reasons[::-1])


def _doubts(e: Evidence, levels: Sequence[str]) -> Iterator[str]:
    if unmended(e, levels):
        yield (
            "AdaBN gives back next to nothing of the lost accuracy: the samples may show something else than "
            "the source (drawings instead of photos, say), which is drift at the feature level"
        )


def _reasons(e: Evidence) -> Iterator[str]:
    if e.samples < MIN_SAMPLES:
        yield f"{e.samples} samples are too few to compare statistics; {MIN_SAMPLES} or more are needed"
    elif e.shift.z_score < Z_SCORE:
        yield "statistics did not move: they are no further from the source's than those of clean samples"
    else:
        yield (
            f"statistics moved: {e.shift.z_score:.0f} standard deviations of clean samples, by "
            f"{e.shift.distance:.3f} per channel at the input of {e.shift.layer}"
        )
    if e.shift.pixels:
        name = max(e.shift.pixels, key=lambda key: abs(e.shift.pixels[key]))
        yield f"inputs: {name} changed most, by {e.shift.pixels[name]:+.2f} standard deviations"
    if e.adabn is not None:
        yield (
            f"confidence {100 * e.confidence.mean:.0f} % (source {100 * e.confidence.source:.0f} %), "
            f"after AdaBN {100 * e.adabn.confidence:.0f} %"
        )
    if e.labels is None:
        yield "no labels: drift at the output level cannot be detected"
        return
    adapted = "" if e.adabn is None else f", after AdaBN {100 * (e.adabn.accuracy or 0):.0f} %"
    yield (
        f"accuracy {100 * e.labels.accuracy:.0f} % on {e.samples} labeled samples{adapted}; on the source it "
        f"was {100 * e.source_accuracy:.0f} % (probability of so few correct: {e.labels.p_value:.2g})"
    )
    yield (
        f"{100 * e.labels.mapped_accuracy:.0f} % if each predicted class meant its most frequent label; "
        f"{100 * e.labels.probe_accuracy:.0f} % with a linear probe before the head"
    )


def _advice(e: Evidence, verdict: str) -> str | None:
    if not e.has_card:
        return (
            "build a source card (tbft card build) where the source data is; without one the diagnosis is "
            "weaker"
        )
    if e.labels is None:
        return (
            "label some samples: without labels, neither drift at the output level nor lost accuracy can be "
            "detected"
        )
    if verdict == "cannot tell":
        more = 1.64**2 * e.source_accuracy * (1 - e.source_accuracy) / LOSS_THAT_MATTERS**2
        return f"label more samples, {max(int(4 * more), 2 * e.samples, MIN_SAMPLES)} or so"
    return None
