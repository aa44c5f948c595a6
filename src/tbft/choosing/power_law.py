"""A saturating power law through a learning curve, with an interval.

With m labels per class, accuracy is a - (a - s) (1 + m / 2)^-c. It starts at s, near the base's accuracy, and
ends at a, which the accuracy on the source bounds. All a, s and c on a grid are weighed by how well they
explain the curve, which keeps the interval wide where labels are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tbft.choosing.learning_curve import Floats, Point

#: Correlation between accuracies measured on the same samples, and error of the power law itself.
CORRELATION, LAW_ERROR = 0.8, 0.015
#: Where between the base's and the source's accuracy the curve ends: mean and standard deviation.
END, END_SPREAD = 0.4, 0.35
#: By how much a head fitted to a label or two may fall below the base, and the scale at which that gets
#: unlikely.
DIPS, DIP = np.array([0.0, 0.03, 0.08, 0.15]), 0.05
#: By how much the interval is widened, found on the families for fitting in ``benchmarks/forecast.py``: a
#: factor, an amount below, and a share of the median's error above, for samples drawn at random.
RANDOM = (1.15, 0.01, 0.05)
#: The same where all labels come from one stretch of time: what comes later may be unlike it. Of the head's
#: gain on labels that it was not fitted to, about this share was still there later.
STRETCH, TRANSFER = (1.0, 0.15, 0.5), 0.4


@dataclass(frozen=True, eq=False)
class Law:
    """Power laws on a grid, and the weight of each, all of one shape.

    Attributes:
        start, end, rate: accuracy of a head without labels and with any number, and how fast it gets there.
        base: accuracy of the base, which is kept where the head is worse.
    """

    start: Floats
    end: Floats
    rate: Floats
    base: Floats
    weights: Floats

    def head(self, labels_per_class: float) -> Floats:
        """The accuracy of the head by each law."""
        rest: Floats = (self.end - self.start) * (1 + labels_per_class / 2) ** -self.rate
        return self.end - rest

    def quantiles(self, labels_per_class: float, transfer: float = 1.0) -> tuple[float, float, float]:
        """Median, 10 % and 90 % quantile of the accuracy of the base or the head, whichever is better.

        Args:
            transfer: the share of the head's gain that holds for other samples.
        """
        gain = np.maximum(self.head(labels_per_class) - self.base, 0)
        values = (self.base + transfer * gain).ravel()
        order = np.argsort(values)
        shares = np.cumsum(self.weights.ravel()[order])
        median, low, high = np.interp([0.5, 0.1, 0.9], shares, values[order])
        return float(median), float(low), float(high)


def fit_law(points: Sequence[Point], label_count: int, source_accuracy: float) -> Law:
    """Weigh all power laws by how well they explain a learning curve of `label_count` labels.

    All points are measured on the same samples, so their errors are correlated: the samples at hand may be
    easier or harder than others, at every point alike.

    Args:
        points: the first is the base, without labels.
    """
    axes = (
        np.linspace(0.01, 0.995, 50),
        np.linspace(-0.3, 1.1, 22),
        np.array([0.2, 0.35, 0.5, 0.7, 1.0]),
        DIPS,
    )
    start, share, rate, dip = np.meshgrid(*axes, indexing="ij", sparse=True)
    room = np.maximum(source_accuracy - start, 0)
    end = np.minimum(start + share * (room + 0.02), 0.999)
    base = np.minimum(start + dip, 0.999)
    law = Law(*np.broadcast_arrays(start, end, rate, base, np.zeros(1)))
    observed = np.array([point.accuracy for point in points])
    smoothed = (observed * label_count + 1) / (label_count + 2)
    errors = np.sqrt(smoothed * (1 - smoothed) / label_count)
    same = CORRELATION + (1 - CORRELATION) * np.eye(len(points))
    covariance = np.outer(errors, errors) * same + LAW_ERROR**2 * np.eye(len(points))
    by_law = [law.base, *(law.head(point.labels_per_class) for point in points[1:])]
    off = np.stack(by_law, axis=-1) - observed
    misfit = np.einsum("...i,...i->...", off @ np.linalg.inv(covariance), off)
    log_weights = -0.5 * (misfit + ((share - END) / END_SPREAD) ** 2) - dip / DIP
    weights = np.exp(log_weights - log_weights.max())
    return Law(law.start, law.end, law.rate, law.base, weights / weights.sum())


def widened(
    quantiles: tuple[float, float, float], widening: tuple[float, float, float]
) -> tuple[float, float, float]:
    """The median and the interval, widened as :data:`RANDOM` and :data:`STRETCH` say."""
    median, low, high = quantiles
    factor, below, above = widening
    low = median - float(np.hypot(factor * (median - low), below))
    high = median + float(np.hypot(factor * (high - median), above * (1 - median)))
    return median, max(low, 0.0), min(high, 1.0)
