"""How far samples lie from the source: distances between statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.diagnosis.observation import Floats, Observation

#: Number of random draws of clean samples, and of samples in each.
DRAWS, DRAWN = 200, 50
_MIN_VARIANCE = 1e-8


@dataclass(frozen=True)
class CleanDistance:
    """How far n clean samples lie from the source at a layer: mean and standard deviation of distance x n."""

    mean: float
    spread: float


def channel_moments(
    seen: Observation, layer: str, rows: npt.NDArray[np.int64] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """Mean and variance of each channel at a layer, over all samples or some `rows`; both (channels,)."""
    means, squares = seen.layers[layer]
    mean = means[rows].mean(0)
    return mean, np.maximum(squares[rows].mean(0) - mean**2, _MIN_VARIANCE)


def symmetric_kl(mean_a: Floats, variance_a: Floats, mean_b: Floats, variance_b: Floats) -> float:
    """Symmetric Kullback-Leibler divergence of two sets of Gaussian channels, averaged over channels.

    Jeffreys (1946): half of ``va/vb + vb/va + (ma - mb)^2 (1/va + 1/vb) - 2`` for each channel.

    >>> ones = np.ones(3, np.float32)
    >>> symmetric_kl(ones, ones, ones, ones), symmetric_kl(ones, ones, 2 * ones, ones)
    (0.0, 1.0)
    """
    a, b = np.maximum(variance_a, _MIN_VARIANCE), np.maximum(variance_b, _MIN_VARIANCE)
    terms = a / b + b / a + (mean_a - mean_b) ** 2 * (1 / a + 1 / b) - 2
    return float(terms.mean() / 2)


def clean_distance(seen: Observation, layer: str, rng: np.random.Generator) -> CleanDistance:
    """Compare random draws of clean samples with all of them; the distance falls with the number drawn."""
    whole = channel_moments(seen, layer)
    drawn = max(min(DRAWN, len(seen) // 2), 1)
    distances = [
        drawn * symmetric_kl(*whole, *channel_moments(seen, layer, rng.permutation(len(seen))[:drawn]))
        for _ in range(DRAWS)
    ]
    return CleanDistance(float(np.mean(distances)), float(np.std(distances)))


def statistics_shift(
    distances: Mapping[str, float], clean: Mapping[str, CleanDistance], count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """For each layer, the distance beyond that of clean samples, and the same as a z-score.

    The distance of clean samples falls with their number, as sampling error does.

    >>> statistics_shift({"bn1": 0.75}, {"bn1": CleanDistance(mean=1.0, spread=0.5)}, count=4)
    ({'bn1': 0.5}, {'bn1': 4.0})
    """
    excess = {layer: d - clean[layer].mean / count for layer, d in distances.items()}
    return excess, {layer: e * count / max(clean[layer].spread, 1e-9) for layer, e in excess.items()}


def mean_shift(values: Floats, mean: Floats, spread: Floats) -> list[float]:
    """Change of the mean of each column, in standard deviations of source samples.

    >>> ones = np.ones(2, np.float32)
    >>> mean_shift(np.stack([ones, 2 * ones]), ones, ones)
    [0.5, 0.5]
    """
    change: list[float] = ((values.mean(0) - mean) / np.maximum(spread, 1e-6)).tolist()
    return change
