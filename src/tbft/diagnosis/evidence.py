"""The named numbers that a diagnosis rests on, each from one small pure function.

    evidence = gather(blocks, samples, card)      # labels are used if they are there

Numbers with `accuracy` in the name need labels and are None without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.blocks.tensors import fingerprint
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard, Strays, mapped_accuracy, relative_gradients, softmax, strays_of
from tbft.diagnosis.observation import BATCH_SIZE, PIXELS, Floats, Observation, observe
from tbft.errors import DataError
from tbft.plan import PSEUDO_SAMPLES
from tbft.verification.evaluation import check_fits

Labels = npt.NDArray[np.int64]

#: More samples than this tell little more, and would cost more.
MOST_SAMPLES = 256
LEAST_SAMPLES = 8
#: Share of few samples that are looked at, and on which AdaBN is tried, but so many if there are: all of
#: them were not seen to choose better, and would cost more than 3 % of the paper's full fine-tuning.
LOOKED_AT, ADABN_TRIED = (0.7, 64), (0.5, 48)
_RIDGE = 30.0


@dataclass(frozen=True)
class Evidence:
    """What samples of unknown drift look like to a model, against its source card.

    Distances are symmetric Kullback-Leibler divergences a channel, see ``card.distance``, less
    what clean samples of this number would show; strays count the same in their standard deviations.
    """

    samples: int
    classes: int
    labeled_a_class: float | None  # labels for each class, on average; None: no labels
    weaker: bool  # there was no card; only the model's own BatchNorm statistics
    distance: float  # at the place where it is largest
    place: str
    strays: float  # largest over places
    block_distances: Mapping[str, float]  # largest within each block
    pixels: Mapping[str, float]  # change of the mean, in source standard deviations a sample
    confidence: float  # mean largest softmax output
    source_confidence: float
    confidence_lost: float  # below the source's, in standard errors
    adabn_confidence: float | None  # the same after AdaBN; None: the model has no BatchNorm
    adabn_agreement: float | None  # share of predictions that AdaBN leaves as they are
    source_accuracy: float
    accuracy: float | None = None  # at rest
    adabn_accuracy: float | None = None
    adabn_samples: int = 0  # that AdaBN was tried on
    accuracy_p: float | None = None  # chance of so few right at the source's accuracy
    mapped_accuracy: float | None = None  # if each predicted class meant its most frequent label
    adabn_mapped_accuracy: float | None = None  # the same after AdaBN
    source_mapped_accuracy: float | None = None
    probe_accuracy: float | None = None  # of a linear probe on what enters the head
    confident_accuracy: float | None = None  # of the more confident half
    gradients: Mapping[str, float] | None = None  # block -> relative gradient norm over its clean value

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gather(
    blocks: Blocks,
    samples: Samples,
    card: SourceCard | None = None,
    labeled: bool = True,
    gradients: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Evidence:
    """Look at samples: two forward passes over some of them, at most 256; the model stays as it is.

    Args:
        card: of this base model; without one, its BatchNorm statistics stand in, which is weaker.
        labeled: use the samples' labels.
        gradients: relative gradient norms as well, for a backward pass more.
        batch_size: of the forward passes; smaller ones take less memory.

    Raises:
        CardError: the card belongs to another model.
        DataError: too few samples, or neither a card nor BatchNorm statistics.
    """
    check_fits(blocks.model, samples)
    if len(samples) < LEAST_SAMPLES:
        raise DataError(
            f"{len(samples)} samples are too few to diagnose a drift from; give {LEAST_SAMPLES} or more"
        )
    if card is not None:
        card.check(blocks.model)
    count = len(samples)
    few = samples.subset(some_of(count, *LOOKED_AT))
    seen = observe(blocks, few, "auto", batch_size)
    weaker = card is None
    card = card or card_of_model(blocks, seen)
    distances = card.distances(seen)
    excess, strays = statistics_shift(distances, card.strays, len(few))
    place = max(excess, key=lambda name: excess[name])
    probabilities = softmax(seen.logits)
    found = Evidence(
        samples=len(few),
        classes=seen.logits.shape[1],
        labeled_a_class=count / seen.logits.shape[1] if labeled else None,
        weaker=weaker,
        distance=excess[place],
        place=place,
        strays=max(strays.values()),
        block_distances=_by_block(blocks, excess),
        pixels={}
        if weaker
        else pixel_shift(seen.pixels, card.array("pixels/mean"), card.array("pixels/spread")),
        confidence=float(probabilities.max(1).mean()),
        source_confidence=card.confidence,
        confidence_lost=confidence_lost(probabilities, card.confidence, card.confidence_spread),
        adabn_confidence=None,
        adabn_agreement=None,
        source_accuracy=card.accuracy,
        source_mapped_accuracy=card.mapped_accuracy,
    )
    called = seen.logits.argmax(1)
    if labeled:
        found = replace(
            found, **_with_labels(few.labels, called, probabilities, seen.features, card.accuracy)
        )
    if batch_norms(blocks.model):
        part = some_of(count, *ADABN_TRIED, of=len(few))
        adapted = observe(blocks, few.subset(part), "auto", batch_size, PSEUDO_SAMPLES)
        after, labels = adapted.logits.argmax(1), few.labels[part]
        found = replace(
            found,
            adabn_confidence=float(softmax(adapted.logits).max(1).mean()),
            adabn_agreement=float((after == called[part]).mean()),
            adabn_accuracy=float((after == labels).mean()) if labeled else None,
            adabn_samples=len(part),
            adabn_mapped_accuracy=mapped_accuracy(labels, after, found.classes) if labeled else None,
        )
    if gradients and labeled and card.gradients:
        norms = relative_gradients(blocks, few.subset(slice(0, 128)))
        found = replace(found, gradients={name: norms[name] / card.gradients[name] for name in norms})
    return found


def some_of(count: int, share: float, least: int, of: int | None = None) -> Labels:
    """Which samples to look at, in an order drawn by a fixed seed: a share of `count`, within bounds.

    Args:
        of: so many that are to be drawn from; None: `count`.

    >>> len(some_of(20, 0.7, 64)), len(some_of(100, 0.7, 64)), len(some_of(1000, 0.7, 64))
    (20, 70, 256)
    """
    most = min(max(least, round(share * count)), MOST_SAMPLES)
    return np.random.default_rng(0).permutation(of or count)[:most]


def statistics_shift(
    distances: Mapping[str, float], strays: Mapping[str, Strays], count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Distance beyond what clean samples show, and the same in standard deviations, for each place.

    A clean sample's distance falls with the number of samples, as sampling error does.

    >>> statistics_shift({"bn1": 0.75}, {"bn1": Strays(mean=1.0, spread=0.5)}, count=4)
    ({'bn1': 0.5}, {'bn1': 4.0})
    """
    excess = {place: d - strays[place].mean / count for place, d in distances.items()}
    return excess, {place: e * count / max(strays[place].spread, 1e-9) for place, e in excess.items()}


def pixel_shift(pixels: Floats, mean: Floats, spread: Floats) -> dict[str, float]:
    """Change of the mean of each of ``observation.PIXELS``, in standard deviations of source samples.

    >>> one = np.ones(4, np.float32)
    >>> pixel_shift(np.stack([one, 2 * one]), one, one)["contrast"]
    0.5
    """
    return dict(zip(PIXELS, ((pixels.mean(0) - mean) / np.maximum(spread, 1e-6)).tolist(), strict=True))


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


def chance_of_so_few(right: int, count: int, expected: float) -> float:
    """Probability of at most `right` of `count` successes at the rate `expected` (exact binomial).

    >>> round(chance_of_so_few(2, 10, 0.5), 4)
    0.0547
    """
    return float(sum(comb(count, k) * expected**k * (1 - expected) ** (count - k) for k in range(right + 1)))


def card_of_model(blocks: Blocks, seen: Observation) -> SourceCard:
    """What the model itself remembers of its source, where no card was made: BatchNorm statistics.

    How far clean samples stray is taken from the samples at hand; accuracy from their confidence.

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
        strays={name: strays_of(seen, name, rng) for name in norms},
        gradients={},
        tensors={key: tensor.detach().to(torch.float32).clone() for key, tensor in tensors.items()},
    )


def _with_labels(
    labels: Labels, called: Labels, probabilities: Floats, features: Floats, source_accuracy: float
) -> dict[str, Any]:
    classes = probabilities.shape[1]
    right = called == labels
    sure = probabilities.max(1) >= np.median(probabilities.max(1))
    return {
        "accuracy": float(right.mean()),
        "accuracy_p": chance_of_so_few(int(right.sum()), len(right), source_accuracy),
        "mapped_accuracy": mapped_accuracy(labels, called, classes),
        "probe_accuracy": probe_accuracy(features, labels, classes),
        "confident_accuracy": float(right[sure].mean()),
    }


def _by_block(blocks: Blocks, excess: Mapping[str, float]) -> dict[str, float]:
    """Largest within each block; a place is a BatchNorm inside a block, or the block whose input it is."""
    found: dict[str, float] = {}
    for place, value in excess.items():
        owner = next((b.name for b in blocks if any(k.startswith(f"{place}.") for k in b.keys)), place)
        found[owner] = max(value, found.get(owner, value))
    return found


def example_evidence(**numbers: Any) -> Evidence:
    """Evidence of clean samples, with some numbers in place of others; for examples and tests."""
    clean = Evidence(
        samples=100,
        classes=10,
        labeled_a_class=10.0,
        weaker=False,
        distance=0.001,
        place="bn",
        strays=0.5,
        block_distances={},
        pixels={},
        confidence=0.88,
        source_confidence=0.88,
        confidence_lost=0.0,
        adabn_confidence=0.87,
        adabn_agreement=0.9,
        source_accuracy=0.8,
        accuracy=0.8,
        adabn_accuracy=0.79,
        adabn_samples=100,
        accuracy_p=0.5,
        mapped_accuracy=0.8,
        adabn_mapped_accuracy=0.79,
        probe_accuracy=0.78,
        confident_accuracy=0.95,
    )
    return replace(clean, **numbers)
