"""Evidence gathered from samples, by the pure functions in ``divergence.py`` and ``predictions.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_model
from tbft.diagnosis.divergence import mean_shift, statistics_shift
from tbft.diagnosis.evidence import AdaBN, Agreement, Confidence, Evidence, Shift
from tbft.diagnosis.observation import BATCH_SIZE, Observation, observe
from tbft.diagnosis.predictions import Labels, confidence_lost, mapped_accuracy, probe_accuracy, softmax
from tbft.errors import DataError
from tbft.plan import PSEUDO_SAMPLES
from tbft.verification.binomial import binomial_cdf
from tbft.verification.compatibility import check_fits

#: More samples than this add little evidence, but cost more.
MAX_SAMPLES = 256
#: (share, minimum) of samples to observe, and to try AdaBN on. Taking all of them did not improve the choice
#: and would cost more than 3 % of the paper's full fine-tuning.
OBSERVED, ADABN_TRIED = (0.7, 64), (0.5, 48)


def gather(
    blocks: Blocks,
    samples: Samples,
    card: SourceCard | None = None,
    labeled: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Evidence:
    """Gather evidence in two forward passes over at most 256 of the samples; the model is not changed.

    Args:
        card: source card of this model; without one, its BatchNorm statistics stand in, which is weaker.
        labeled: whether to use the labels.
        batch_size: batch size of the forward passes; smaller batches take less memory.

    Raises:
        CardError: the card belongs to another model.
        DataError: no samples, or inputs of another form than the source's.
    """
    if not len(samples):
        raise DataError(f"{samples.name}: there are no samples to diagnose")
    if samples.targets is None:
        check_fits(blocks, samples)
    if card is not None:
        card.check(blocks.model)
        card.check_inputs(samples)
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
        shift=_shift(blocks, seen, source, card is not None) if source.layers else None,
        confidence=confidence,
        labels=_agreement(few.labels, predicted, seen, source.accuracy) if labeled else None,
        has_classes=samples.targets is None,
    )
    if not batch_norms(blocks.model):
        return evidence
    part = few.subset(some_of(count, *ADABN_TRIED, of=len(few)))
    adapted = observe(blocks, part, "auto", batch_size, PSEUDO_SAMPLES)
    return replace(evidence, adabn=_adabn(adapted, part.labels if labeled else None))


def passed_count(blocks: Blocks, count: int) -> int:
    """How many samples pass through the model to gather evidence from `count`."""
    observed = min(len(some_of(count, *OBSERVED)), count)
    tried = min(len(some_of(count, *ADABN_TRIED)), observed) if batch_norms(blocks.model) else 0
    return observed + tried


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
    """Positions of a share of `count` samples, at least `minimum` and at most 256, drawn with a fixed seed.

    Args:
        of: number of samples to draw from; None: `count`.

    >>> len(some_of(20, 0.7, 64)), len(some_of(100, 0.7, 64)), len(some_of(1000, 0.7, 64))
    (20, 70, 256)
    """
    wanted = min(max(minimum, round(share * count)), MAX_SAMPLES)
    return np.random.default_rng(0).permutation(of or count)[:wanted]


def _by_block(blocks: Blocks, excess: Mapping[str, float]) -> dict[str, float]:
    """Largest distance in each block; a layer is a BatchNorm inside a block, or a block itself."""
    largest: dict[str, float] = {}
    for layer, value in excess.items():
        owner = next((b.name for b in blocks if any(k.startswith(f"{layer}.") for k in b.keys)), layer)
        largest[owner] = max(value, largest.get(owner, value))
    return largest
