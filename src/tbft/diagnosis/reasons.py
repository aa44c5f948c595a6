"""A diagnosis in words: its reasons, its doubts, and what would make it more certain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tbft.diagnosis.evidence import MIN_SAMPLES, Evidence
from tbft.diagnosis.rules import LOSS_THAT_MATTERS, Z_SCORE, unmended


def reasons_for(e: Evidence, levels: Sequence[str]) -> tuple[str, ...]:
    """The evidence in words, the decisive first: statistics decide the input level, labels the others."""
    reasons = list(_reasons(e))
    if levels and list(levels) != ["input"]:
        reasons.reverse()
    return (*reasons, *_doubts(e, levels))


def _doubts(e: Evidence, levels: Sequence[str]) -> Iterator[str]:
    if unmended(e, levels):
        yield (
            "AdaBN recovers almost none of the lost accuracy: the samples may show something else than "
            "the source (drawings instead of photos, say), which is drift at the feature level"
        )


def _reasons(e: Evidence) -> Iterator[str]:
    if e.shift is None:
        yield "the source's statistics are unknown: there is no source card, and no BatchNorm that keeps them"
    elif e.samples < MIN_SAMPLES:
        yield f"{e.samples} samples are too few to compare statistics; {MIN_SAMPLES} or more are needed"
    elif e.shift.z_score < Z_SCORE:
        yield "statistics did not move: they are no further from the source's than those of clean samples"
    else:
        yield (
            f"statistics moved: {e.shift.z_score:.0f} standard deviations of clean samples, by "
            f"{e.shift.distance:.3f} per channel at the input of {e.shift.layer}"
        )
    if e.shift is not None and e.shift.pixels:
        name, change = max(e.shift.pixels.items(), key=lambda item: abs(item[1]))
        yield f"inputs: {name} changed most, by {change:+.2f} standard deviations"
    if not e.has_classes:
        yield "targets are not classes: drift at the feature and the output level cannot be detected"
        return
    if e.adabn is not None:
        yield (
            f"confidence {100 * e.confidence.mean:.0f} % (source {100 * e.confidence.source:.0f} %), "
            f"after AdaBN {100 * e.adabn.confidence:.0f} %"
        )
    if e.labels is None:
        yield "no labels: drift at the output level cannot be detected"
        return
    adapted = "" if e.adabn is None else f", after AdaBN {100 * (e.adabn.accuracy or 0):.0f} %"
    accuracy = f"accuracy {100 * e.labels.accuracy:.0f} % on {e.samples} labeled samples{adapted}"
    if e.shift is None:
        yield accuracy
    else:
        yield (
            f"{accuracy}; on the source it was {100 * e.source_accuracy:.0f} % (probability of so few "
            f"correct: {e.labels.p_value:.2g})"
        )
    yield (
        f"{100 * e.labels.mapped_accuracy:.0f} % if each predicted class meant its most frequent label; "
        f"{100 * e.labels.probe_accuracy:.0f} % with a linear probe before the head"
    )


def advice(e: Evidence, verdict: str) -> str | None:
    """What would make a diagnosis more certain; None if nothing is needed."""
    if not e.has_card:
        weaker = "no level is diagnosed" if e.shift is None else "the diagnosis is weaker"
        return f"build a source card (tbft card build) where the source data is; without one {weaker}"
    if e.labels is None and e.has_classes:
        return (
            "label some samples: without labels, neither drift at the output level nor lost accuracy can be "
            "detected"
        )
    if verdict == "cannot tell":
        more = 1.64**2 * e.source_accuracy * (1 - e.source_accuracy) / LOSS_THAT_MATTERS**2
        return f"label more samples, {max(int(4 * more), 2 * e.samples, MIN_SAMPLES)} or so"
    return None
