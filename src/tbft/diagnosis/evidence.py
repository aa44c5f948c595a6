"""The named numbers that a diagnosis rests on; ``gathering.py`` computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Statistics of fewer samples are not comparable with the source's, so that no level can be diagnosed.
MIN_SAMPLES = 8


@dataclass(frozen=True)
class Shift:
    """How far the statistics of the inputs moved away from the source's.

    Distances are symmetric Kullback-Leibler divergences per channel, see
    :func:`tbft.diagnosis.divergence.symmetric_kl`, minus what as many clean samples would show.

    Attributes:
        distance: largest distance over layers.
        layer: the layer with the largest distance.
        z_score: largest z-score over layers: the distance in standard deviations of clean samples.
        blocks: block -> largest distance in it.
        pixels: change of the mean, in standard deviations of source samples; empty without a card.
    """

    distance: float
    layer: str
    z_score: float
    blocks: Mapping[str, float]
    pixels: Mapping[str, float]


@dataclass(frozen=True)
class Confidence:
    """The mean of the largest softmax output.

    Attributes:
        mean: on the samples.
        source: on the source.
        lost: how far `mean` lies below `source`, in standard errors.
    """

    mean: float
    source: float
    lost: float


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with labels.

    Attributes:
        accuracy: share of correct predictions.
        p_value: probability of so few correct predictions at the source's accuracy.
        mapped_accuracy: accuracy if each predicted class meant its most frequent label.
        probe_accuracy: leave-one-out accuracy of a linear probe on the inputs of the head.
    """

    accuracy: float
    p_value: float
    mapped_accuracy: float
    probe_accuracy: float


@dataclass(frozen=True)
class AdaBN:
    """The samples, or some of them, after AdaBN; accuracies are None without labels."""

    samples: int
    confidence: float
    accuracy: float | None = None
    mapped_accuracy: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What samples of unknown drift look like to a model, compared with its source card.

    Attributes:
        samples: number of observed samples.
        labels_per_class: mean number of labels per class; None without labels.
        has_card: False if the model's BatchNorm statistics stand in for a card, which is weaker.
        source_accuracy, source_mapped_accuracy: on the source, from the card; without one, the confidence on
            these samples.
        shift: None if the source's statistics are unknown: there is neither a card nor BatchNorm.
        labels: None without labels.
        adabn: None if the model has no BatchNorm.
        has_classes: False for targets of another task, for which accuracies and confidences mean nothing.
    """

    samples: int
    classes: int
    labels_per_class: float | None
    has_card: bool
    source_accuracy: float
    source_mapped_accuracy: float
    shift: Shift | None
    confidence: Confidence
    labels: Agreement | None = None
    adabn: AdaBN | None = None
    has_classes: bool = True

    @property
    def distance(self) -> float:
        """Largest distance of statistics over layers; 0 where those of the source are unknown."""
        return 0.0 if self.shift is None else self.shift.distance

    @property
    def z_score(self) -> float:
        """Largest z-score over layers; 0 where the statistics of the source are unknown."""
        return 0.0 if self.shift is None else self.shift.z_score

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def example_evidence(**numbers: Any) -> Evidence:
    """Evidence of clean samples with some numbers replaced; for examples and tests.

    Args:
        numbers: fields of the evidence, or of one of its parts in the form ``part__field``.
    """
    clean = Evidence(
        samples=100,
        classes=10,
        labels_per_class=10.0,
        has_card=True,
        source_accuracy=0.8,
        source_mapped_accuracy=0.8,
        shift=Shift(0.001, "bn", 0.5, {}, {}),
        confidence=Confidence(0.88, 0.88, 0.0),
        labels=Agreement(0.8, 0.5, 0.8, 0.78),
        adabn=AdaBN(100, 0.87, 0.79, 0.79),
    )
    for name, value in numbers.items():
        part, _, field = name.partition("__")
        changed = replace(getattr(clean, part), **{field: value}) if field else value
        clean = replace(clean, **{part: changed})
    return clean
