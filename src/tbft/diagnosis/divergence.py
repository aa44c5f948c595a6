"""How far samples lie from the source: distances of channel statistics, and readings of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.diagnosis.observation import Floats, Observation

#: Clean resampling: so many draws, of so many samples each.
DRAWS, DRAWN = 200, 50
_MIN_VARIANCE = 1e-8


@dataclass(frozen=True)
class CleanDistance:
    """How far n clean samples lie from the source at a layer: the distance times n, its mean and spread."""

    mean: float
    spread: float


def channel_moments(
    seen: Observation, layer: str, rows: npt.NDArray[np.int64] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """Mean and variance of each channel at a layer over (some of) the samples, both (channels,)."""
    means, squares = seen.layers[layer]
    mean = means[rows].mean(0)
    return mean, np.maximum(squares[rows].mean(0) - mean**2, _MIN_VARIANCE)


def symmetric_kl(mean_a: Floats, variance_a: Floats, mean_b: Floats, variance_b: Floats) -> float:
    """Symmetric Kullback-Leibler divergence of two sets of Gaussian channels, mean over channels.

    Jeffreys (1946): half of ``va/vb + vb/va + (ma - mb)^2 (1/va + 1/vb) - 2`` for each channel.

    >>> one = np.ones(3, np.float32)
    >>> symmetric_kl(one, one, one, one), symmetric_kl(one, one, 2 * one, one)
    (0.0, 1.0)
    """
    a, b = np.maximum(variance_a, _MIN_VARIANCE), np.maximum(variance_b, _MIN_VARIANCE)
    terms = a / b + b / a + (mean_a - mean_b) ** 2 * (1 / a + 1 / b) - 2
    return float(terms.mean() / 2)


def mapped_accuracy(labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> float:
    """Accuracy if each predicted class meant the label that the *other* samples so predicted have most.

    High where labels mean something else but mean it consistently (permuted, swapped, merged classes);
    a prediction that no other sample shares means itself. Ties count in part.

    >>> mapped_accuracy(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), 2)
    1.0
    """
    votes = 0.5 * np.eye(classes)
    np.add.at(votes, (predicted, labels), 1)
    rows = votes[predicted]
    rows[np.arange(len(labels)), labels] -= 1  # not its own
    best = rows >= rows.max(1, keepdims=True) - 1e-9
    return float((best[np.arange(len(labels)), labels] / best.sum(1)).mean())


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def clean_distance(seen: Observation, layer: str, rng: np.random.Generator) -> CleanDistance:
    """Draws of clean samples against all of them; the distance falls with the number of samples."""
    whole = channel_moments(seen, layer)
    drawn = min(DRAWN, len(seen) // 2)
    distances = [
        drawn * symmetric_kl(*whole, *channel_moments(seen, layer, rng.permutation(len(seen))[:drawn]))
        for _ in range(DRAWS)
    ]
    return CleanDistance(float(np.mean(distances)), float(np.std(distances)))
