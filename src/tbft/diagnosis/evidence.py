"""The named numbers that a diagnosis rests on, each from one small pure function.

evidence = gather(blocks, samples, card)      # labels are used if they are there
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.blocks.tensors import fingerprint
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.divergence import CleanDistance, clean_distance, mapped_accuracy, softmax
from tbft.diagnosis.observation import BATCH_SIZE, Floats, Observation, observe
from tbft.errors import DataError
from tbft.plan import PSEUDO_SAMPLES
from tbft.verification.binomial import binomial_cdf
from tbft.verification.evaluation import check_fits

Labels = npt.NDArray[np.int64]

#: More samples than this say little more, and would cost more.
MAX_SAMPLES = 256
MIN_SAMPLES = 8
#: (share, minimum) of samples to observe, and to try AdaBN on: all of them were not seen to choose better,
#: and would cost more than 3 % of the paper's full fine-tuning.
OBSERVED, ADABN_TRIED = (0.7, 64), (0.5, 48)
_RIDGE = 30.0


@dataclass(frozen=True)
class Shift:
    """How far the statistics of the inputs moved from the source's.

    Distances are symmetric Kullback-Leibler divergences per channel, see
    :func:`tbft.diagnosis.divergence.symmetric_kl`, less what clean samples of this number would show.

    Attributes:
        distance: at the layer where it is largest.
        z_score: the same in standard deviations of clean samples, largest over layers.
        blocks: largest distance within each block.
        pixels: change of the mean, in source standard deviations of a sample; empty without a card.
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
        lost: how far `mean` lies below the source's, in standard errors.
    """

    mean: float
    source: float
    lost: float


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with labels.

    Attributes:
        accuracy: as predictions stand.
        p_value: chance of so few right at the source's accuracy.
        mapped_accuracy: if each predicted class meant the label it goes with most often.
        probe_accuracy: leave-one-out, of a linear probe on what enters the head.
    """

    accuracy: float
    p_value: float
    mapped_accuracy: float
    probe_accuracy: float


@dataclass(frozen=True)
class AdaBN:
    """The same samples, or some of them, after AdaBN; accuracies are None without labels."""

    samples: int
    confidence: float
    accuracy: float | None = None
    mapped_accuracy: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What samples of unknown drift look like to a model, against its source card.

    Attributes:
        samples: that were observed.
        labels_per_class: labels for each class, on average; None: no labels.
        has_card: otherwise the model's own BatchNorm statistics stand in, which is weaker.
        source_accuracy, source_mapped_accuracy: on the source, as the card has them.
        labels: None without labels.
        adabn: None where the model has no BatchNorm.
    """

    samples: int
    classes: int
    labels_per_class: float | None
    has_card: bool
    source_accuracy: float
    source_mapped_accuracy: float
    shift: Shift
    confidence: Confidence
    labels: Agreement | None = None
    adabn: AdaBN | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gather(
    blocks: Blocks,
    samples: Samples,
    card: SourceCard | None = None,
    labeled: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Evidence:
    """Look at samples: two forward passes over some of them, at most 256; the model stays as it is.

    Args:
        card: of this base model; without one, its BatchNorm statistics stand in, which is weaker.
        labeled: use the samples' labels.
        batch_size: of the forward passes; smaller ones take less memory.

    Raises:
        CardError: the card belongs to another model.
        DataError: too few samples, or neither a card nor BatchNorm statistics.
    """
    check_fits(blocks.model, samples)
    if len(samples) < MIN_SAMPLES:
        raise DataError(
            f"{len(samples)} samples are too few to diagnose a drift from; give {MIN_SAMPLES} or more"
        )
    if card is not None:
        card.check(blocks.model)
    count = len(samples)
    few = samples.subset(some_of(count, *OBSERVED))
    seen = observe(blocks, few, "auto", batch_size)
    source = card or card_of_model(blocks, seen)
    probabilities, predicted = softmax(seen.logits), seen.logits.argmax(1)
    confidence = Confidence(
        float(probabilities.max(1).mean()),
        source.confidence,
        confidence_lost(probabilities, source.confidence, source.confidence_spread),
    )
    evidence = Evidence(
        samples=len(few),
        classes=seen.logits.shape[1],
        labels_per_class=count / seen.logits.shape[1] if labeled else None,
        has_card=card is not None,
        source_accuracy=source.accuracy,
        source_mapped_accuracy=source.mapped_accuracy,
        shift=_shift(blocks, seen, source, card is not None),
        confidence=confidence,
        labels=_agreement(few.labels, predicted, seen, source.accuracy) if labeled else None,
    )
    if not batch_norms(blocks.model):
        return evidence
    part = few.subset(some_of(count, *ADABN_TRIED, of=len(few)))
    adapted = observe(blocks, part, "auto", batch_size, PSEUDO_SAMPLES)
    return replace(evidence, adabn=_adabn(adapted, part.labels if labeled else None))


def _shift(blocks: Blocks, seen: Observation, source: SourceCard, has_card: bool) -> Shift:
    excess, z_scores = statistics_shift(source.distances(seen), source.clean, len(seen))
    layer = max(excess, key=lambda name: excess[name])
    pixels = {}
    if has_card:
        mean, spread = source.array("pixels/mean"), source.array("pixels/spread")
        pixels = dict(zip(seen.pixel_names, mean_shift(seen.pixels, mean, spread), strict=True))
    return Shift(excess[layer], layer, max(z_scores.values()), _by_block(blocks, excess), pixels)


def _agreement(labels: Labels, predicted: Labels, seen: Observation, source_accuracy: float) -> Agreement:
    classes, right = seen.logits.shape[1], int((predicted == labels).sum())
    return Agreement(
        accuracy=right / len(labels),
        p_value=binomial_cdf(right, len(labels), source_accuracy),
        mapped_accuracy=mapped_accuracy(labels, predicted, classes),
        probe_accuracy=probe_accuracy(seen.features, labels, classes),
    )


def _adabn(adapted: Observation, labels: Labels | None) -> AdaBN:
    after, confidence = adapted.logits.argmax(1), float(softmax(adapted.logits).max(1).mean())
    if labels is None:
        return AdaBN(len(adapted), confidence)
    mapped = mapped_accuracy(labels, after, adapted.logits.shape[1])
    return AdaBN(len(adapted), confidence, float((after == labels).mean()), mapped)


def some_of(count: int, share: float, minimum: int, of: int | None = None) -> Labels:
    """Which samples to look at, in an order drawn by a fixed seed: a share of `count`, within bounds.

    Args:
        of: so many that are to be drawn from; None: `count`.

    >>> len(some_of(20, 0.7, 64)), len(some_of(100, 0.7, 64)), len(some_of(1000, 0.7, 64))
    (20, 70, 256)
    """
    most = min(max(minimum, round(share * count)), MAX_SAMPLES)
    return np.random.default_rng(0).permutation(of or count)[:most]


def statistics_shift(
    distances: Mapping[str, float], clean: Mapping[str, CleanDistance], count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Distance beyond what clean samples show, and the same in standard deviations, for each layer.

    A clean sample's distance falls with the number of samples, as sampling error does.

    >>> statistics_shift({"bn1": 0.75}, {"bn1": CleanDistance(mean=1.0, spread=0.5)}, count=4)
    ({'bn1': 0.5}, {'bn1': 4.0})
    """
    excess = {layer: d - clean[layer].mean / count for layer, d in distances.items()}
    return excess, {layer: e * count / max(clean[layer].spread, 1e-9) for layer, e in excess.items()}


def mean_shift(values: Floats, mean: Floats, spread: Floats) -> list[float]:
    """Change of the mean of each column, in standard deviations of source samples.

    >>> one = np.ones(2, np.float32)
    >>> mean_shift(np.stack([one, 2 * one]), one, one)
    [0.5, 0.5]
    """
    change: list[float] = ((values.mean(0) - mean) / np.maximum(spread, 1e-6)).tolist()
    return change


def confidence_lost(probabilities: Floats, source_confidence: float, source_spread: float) -> float:
    """How far the mean largest output lies below the source's, in standard errors.

    Drift that the model sees makes it less sure; labels that mean something else do not.

    >>> confidence_lost(np.array([[0.5, 0.5]] * 4, np.float32), 0.9, 0.2)
    4.0
    """
    lost = source_confidence - float(probabilities.max(1).mean())
    return lost / (max(source_spread, 1e-6) / len(probabilities) ** 0.5)


def probe_accuracy(features: Floats, labels: Labels, classes: int) -> float:
    """Leave-one-out accuracy of a ridge regression from features to one-hot labels, in closed form.

    Allen's PRESS (1974): the residual without a sample is its residual over one minus its leverage.

    >>> x = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    >>> probe_accuracy(np.repeat(x, 20, axis=0), np.repeat([0, 0, 1, 1], 20), 2)
    1.0
    """
    x = (features - features.mean(0)) / (features.std(0) + 1e-3)
    x = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)
    y = np.eye(classes)[labels]
    if x.shape[1] <= len(x):
        hat = x @ np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T)
    else:  # the same matrix by way of the smaller inverse
        kernel = x @ x.T
        hat = kernel @ np.linalg.inv(kernel + _RIDGE * np.eye(len(x)))
    own = np.diag(hat)[:, None]
    without = (hat @ y - own * y) / (1 - own)
    return float((without.argmax(1) == labels).mean())


def card_of_model(blocks: Blocks, seen: Observation) -> SourceCard:
    """What the model itself remembers of its source, where no card was made: BatchNorm statistics.

    How far clean samples lie is taken from the samples at hand; accuracy from their confidence.

    Raises:
        DataError: the model has no BatchNorm with running statistics.
    """
    known = set(batch_norms(blocks.model))
    norms = {name: m for name, m in blocks.model.named_modules() if m in known}
    if not norms:
        raise DataError(
            "a model without BatchNorm remembers nothing of its source: build a card (tbft card build)"
        )
    rng = np.random.default_rng(0)
    confidence = float(softmax(seen.logits).max(1).mean())
    tensors = {}
    for name, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        tensors[f"site/{name}/mean"], tensors[f"site/{name}/variance"] = norm.running_mean, norm.running_var
    return SourceCard(
        base_fingerprint=fingerprint(blocks.model.state_dict()),
        sample_count=0,
        accuracy=confidence,
        mapped_accuracy=confidence,
        confidence=confidence,
        confidence_spread=float(softmax(seen.logits).max(1).std()),
        clean={name: clean_distance(seen, name, rng) for name in norms},
        tensors={key: tensor.detach().to(torch.float32).clone() for key, tensor in tensors.items()},
    )


def _by_block(blocks: Blocks, excess: Mapping[str, float]) -> dict[str, float]:
    """Largest within each block; a layer is a BatchNorm inside a block, or the block whose input it is."""
    largest: dict[str, float] = {}
    for layer, value in excess.items():
        owner = next((b.name for b in blocks if any(k.startswith(f"{layer}.") for k in b.keys)), layer)
        largest[owner] = max(value, largest.get(owner, value))
    return largest


def example_evidence(**numbers: Any) -> Evidence:
    """Evidence of clean samples, with some numbers in place of others; for examples and tests.

    Args:
        numbers: fields of the evidence, or of one of its parts as ``part__field``.
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
