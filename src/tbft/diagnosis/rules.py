"""Thresholds and tests on evidence, from which levels follow.

The constants were set on the development half of ``benchmarks/shifts.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from tbft.diagnosis.evidence import MIN_SAMPLES, Evidence
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
#: Share of the lost accuracy that AdaBN recovers in nine of ten corruptions, and the confidence in the
#: input level where it recovers less: the feature level is then as likely.
MIN_MENDED, UNMENDED_CONFIDENCE = 0.1, 0.5


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
    if e.adabn is not None and e.z_score >= Z_SCORE:
        readings.append((e.adabn.accuracy, e.adabn.mapped_accuracy, e.adabn.samples))
    gains = [
        (mapped - plain - usual) / sqrt(max(mapped * (1 - mapped), 0.05) / count)
        for plain, mapped, count in readings
        if plain is not None and mapped is not None
    ]
    return max([0.0, *gains])


def contradicted(e: Evidence) -> bool:
    """Whether accuracy after AdaBN is lower than any drift of the inputs alone was observed to leave."""
    if e.adabn is None or e.adabn.accuracy is None or e.z_score < Z_SCORE:
        return False
    right = round(e.adabn.accuracy * e.adabn.samples)
    return binomial_cdf(right, e.adabn.samples, MIN_AFTER_ADABN * e.source_accuracy) < CONTRADICTED_P


def unmended(e: Evidence, levels: Sequence[str]) -> bool:
    """Whether AdaBN recovers almost none of what drift at the input level alone would cost.

    In nine of ten corruptions of pictures it recovers more. Drift that changes what the pictures show, such
    as drawings instead of photos, moves statistics as far, and AdaBN does not help.
    """
    if tuple(levels) != ("input",) or e.labels is None or e.adabn is None or e.adabn.accuracy is None:
        return False
    lost = e.source_accuracy - e.labels.accuracy
    return lost > LOSS_THAT_MATTERS and e.adabn.accuracy - e.labels.accuracy < MIN_MENDED * lost


def too_few(e: Evidence) -> bool:
    """Whether a loss that matters could hide behind so few labels."""
    if e.labels is None or e.samples < MIN_SAMPLES:
        return True
    error = sqrt(e.source_accuracy * (1 - e.source_accuracy) / e.samples)
    return e.source_accuracy - e.labels.accuracy + 1.64 * error > LOSS_THAT_MATTERS
