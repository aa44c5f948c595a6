"""From evidence to the level of drift; but for :func:`diagnose` itself pure, without tensors.

The order of the questions follows from what each level leaves alone. Drift at the output level leaves
every statistic of the inputs where it was, exactly. Drift at the feature level moves statistics a
little, as other pictures of the same kind do, and costs accuracy. Drift at the input level moves them
by far more than other pictures would. Labels that mean something else are told by their consistency:
each predicted class still goes with one label, only with another.

The constants below were set on the development half of ``benchmarks/shifts.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import exp, log, sqrt
from typing import Any

from tbft.blocks import Blocks
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.evidence import Evidence, chance_of_so_few, gather
from tbft.diagnosis.observation import BATCH_SIZE

#: Distance beyond which statistics moved by more than other pictures of the same kind would: between
#: the 0.012 of unseen subclasses and the 0.023 of the weakest corruption of severity 3.
INPUT_DISTANCE = 0.017
#: Standard deviations beyond which statistics moved at all; 25 places move together, so more than 3.
STRAYS = 4.5
#: Chance below which accuracy is called lower than on the source.
ACCURACY_P = 0.001
#: Standard errors by which the model is less sure than on the source, where labels disagree as well: two in a
#: hundred draws of clean samples exceed it, the card being a sample too. Unseen subclasses show 3.2 and more.
CONFIDENCE_LOST = 2.5
#: Least gain in accuracy from reading predictions by their labels, in standard errors.
MAPPED_ERRORS = 3.0
#: Share of the source's accuracy that AdaBN leaves at least under drift of the inputs alone, and the
#: chance of so few right below which it is not that alone.
LEAST_AFTER_ADABN, CONTRADICTED_P = 0.45, 0.002
#: With fewer labels than would show a loss of so many points, no drift is not yet no loss.
LOSS_THAT_MATTERS = 0.15


@dataclass(frozen=True)
class Diagnosis:
    """What a model's samples suffer from.

    Attributes:
        levels: of ``input``, ``feature`` and ``output``; two where drift is mixed; empty: see `verdict`.
        verdict: ``drift``, ``none`` (no drift, or none that matters), or ``cannot tell``.
        confidence: 0 to 1, that the levels are right.
        reasons: the evidence in words and numbers.
        advice: what would help to tell; None where nothing is open.
        evidence: that it rests on.
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


def diagnose(
    blocks: Blocks,
    samples: Samples,
    card: SourceCard | None = None,
    labeled: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Diagnosis:
    """Tell the level of drift that samples show; the model stays as it is.

    Args:
        samples: of the target; up to 256 of them are looked at.
        card: of this base model, see :func:`tbft.build_card`; without one the diagnosis is weaker.
        labeled: use their labels; without, drift at the output level cannot be seen.
        batch_size: of the forward passes; smaller ones take less memory.

    Raises:
        CardError, DataError: the card belongs to another model, or there are too few samples.
    """
    return diagnose_evidence(gather(blocks, samples, card, labeled, batch_size=batch_size))


def diagnose_evidence(e: Evidence) -> Diagnosis:
    """The levels that the evidence speaks for.

    >>> from tbft.diagnosis.evidence import example_evidence
    >>> diagnose_evidence(example_evidence(distance=0.4, strays=200.0)).levels
    ('input',)
    >>> diagnose_evidence(example_evidence(accuracy=0.02, mapped_accuracy=0.78, accuracy_p=0.0)).levels
    ('output',)
    """
    moved, far = e.strays >= STRAYS, e.distance >= INPUT_DISTANCE
    input_level = moved and far
    lower = e.accuracy_p is not None and e.accuracy_p < ACCURACY_P
    other_labels = remapped(e)
    unsure = e.confidence_lost >= CONFIDENCE_LOST
    feature_level = lower and not other_labels and not input_level and (moved or unsure)
    # With statistics and confidence as they were, labels that are wrong at random are all that is left.
    output_level = other_labels or (lower and not moved and not unsure)
    levels = [
        level
        for level, found in (("input", input_level), ("feature", feature_level), ("output", output_level))
        if found
    ]
    verdict = "drift" if levels else "cannot tell" if _too_few(e) else "none"
    return Diagnosis(
        levels=tuple(levels),
        verdict=verdict,
        confidence=_confidence(e, verdict),
        reasons=_decisive_first(list(_reasons(e)), levels),
        advice=_advice(e, verdict),
        evidence=e,
    )


def remapped(e: Evidence) -> bool:
    """Whether labels mean something else, rather than being wrong at random."""
    return mapped_gain(e) >= MAPPED_ERRORS or contradicted(e)


def mapped_gain(e: Evidence) -> float:
    """What reading predictions by their labels gains, at rest or after AdaBN, in standard errors; or 0.

    Less what it gains on the source, where a model has not learned to tell its classes.
    """
    usual = max(0.0, (e.source_mapped_accuracy or 0.0) - e.source_accuracy)
    pairs = [(e.accuracy, e.mapped_accuracy, e.samples)]
    if e.strays >= STRAYS:
        pairs.append((e.adabn_accuracy, e.adabn_mapped_accuracy, e.adabn_samples))
    gains = [
        (mapped - plain - usual) / sqrt(max(mapped * (1 - mapped), 0.05) / count)
        for plain, mapped, count in pairs
        if plain is not None and mapped is not None
    ]
    return max([0.0, *gains])


def contradicted(e: Evidence) -> bool:
    """Whether fewer labels agree after AdaBN than any drift of the inputs alone was seen to leave."""
    if e.adabn_accuracy is None or e.strays < STRAYS:
        return False
    right = round(e.adabn_accuracy * e.adabn_samples)
    return chance_of_so_few(right, e.adabn_samples, LEAST_AFTER_ADABN * e.source_accuracy) < CONTRADICTED_P


def _too_few(e: Evidence) -> bool:
    """Whether a loss that matters could hide behind so few labels."""
    if e.accuracy is None:
        return True
    error = sqrt(e.source_accuracy * (1 - e.source_accuracy) / e.samples)
    return e.source_accuracy - e.accuracy + 1.64 * error > LOSS_THAT_MATTERS


def _confidence(e: Evidence, verdict: str) -> float:
    """How far the deciding numbers are from their thresholds, as a logistic of the nearest."""
    margins = [abs(log(max(e.strays, 0.1) / STRAYS))]
    if e.strays >= STRAYS:
        margins.append(abs(log(max(e.distance, 1e-4) / INPUT_DISTANCE)))
    if e.accuracy_p is not None and e.distance < INPUT_DISTANCE:
        margins.append(abs(log(max(e.accuracy_p, 1e-9) / ACCURACY_P)) / 3)
    if e.accuracy is not None:
        margins.append(abs(mapped_gain(e) - MAPPED_ERRORS) / 2)
    confidence = 1 / (1 + exp(-4 * min(margins)))
    return confidence * (0.8 if e.weaker else 1.0) if verdict != "cannot tell" else 0.5


def _decisive_first(reasons: list[str], levels: list[str]) -> tuple[str, ...]:
    """Statistics speak for the input level, labels for the others; what decided is said first."""
    return tuple(reasons if not levels or levels == ["input"] else reasons[::-1])


def _reasons(e: Evidence) -> Iterator[str]:
    if e.strays < STRAYS:
        yield "statistics are at rest: they stray no further than those of clean samples"
    else:
        yield (
            f"statistics moved: {e.strays:.0f} standard deviations of clean samples, by {e.distance:.3f} a "
            f"channel at the input of {e.place}"
        )
    if e.pixels:
        name = max(e.pixels, key=lambda key: abs(e.pixels[key]))
        yield f"inputs: {name} changed most, by {e.pixels[name]:+.2f} standard deviations"
    if e.adabn_confidence is not None:
        yield (
            f"confidence {100 * e.confidence:.0f} % (source {100 * e.source_confidence:.0f} %), "
            f"after AdaBN {100 * e.adabn_confidence:.0f} %"
        )
    if e.accuracy is None:
        yield "no labels: drift at the output level cannot be seen"
        return
    adapted = "" if e.adabn_accuracy is None else f", after AdaBN {100 * e.adabn_accuracy:.0f} %"
    yield (
        f"accuracy {100 * e.accuracy:.0f} % on {e.samples} labeled samples{adapted}; on the source it was "
        f"{100 * e.source_accuracy:.0f} % (chance of so few right: {e.accuracy_p:.2g})"
    )
    yield (
        f"{100 * (e.mapped_accuracy or 0):.0f} % if predicted classes meant the labels they mostly go with; "
        f"{100 * (e.probe_accuracy or 0):.0f} % for a linear probe before the head"
    )


def _advice(e: Evidence, verdict: str) -> str | None:
    if e.weaker:
        return (
            "build a source card (tbft card build) where the source data is: the diagnosis is weaker without"
        )
    if e.accuracy is None:
        return "label some samples: without, drift at the output level and loss of accuracy cannot be seen"
    if verdict == "cannot tell":
        more = 1.64**2 * e.source_accuracy * (1 - e.source_accuracy) / LOSS_THAT_MATTERS**2
        return f"label more samples, {max(int(4 * more), 2 * e.samples)} or so"
    return None
