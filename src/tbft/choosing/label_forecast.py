"""How many labels? The accuracy to expect from more of them, with an interval that was checked.

A saturating power law is fitted to the learning curve of a cheap head (see ``learning_curve.py``): with m
labels per class, accuracy is a - (a - s) (1 + m / 2)^-c. It starts at s, near the base's accuracy, and ends
at a, which the accuracy on the source bounds. All a, s and c on a grid are weighed by how well they explain
the curve, which keeps the interval wide where labels are few. ``benchmarks/forecast.py`` measures how often
the truth lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tbft.choosing.learning_curve import Floats, Ints, Point, head_problem, learning_curve
from tbft.data.columns import named_groups
from tbft.data.samples import Samples
from tbft.data.times import order_keys, positions_in_time
from tbft.errors import DataError

#: Numbers of labels to forecast for, in times the labels at hand; 1 stands for now.
FACTORS = (1, 2, 5, 10)
#: Fewer labels say nothing.
MIN_LABELS = 3
#: More labels are not used.
MAX_LABELS = 1000
#: Where a forecast is a by-product of choosing, it may take milliseconds only.
FEW_LABELS = 200
#: What the source's accuracy is taken for without a card.
UNKNOWN_SOURCE = 0.9
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
#: Gains smaller than this are hardly worth labels.
WORTHWHILE = 0.02
#: A class with less than this share of the labels of the median class lacks labels.
LACKING = 0.5


class Seen(NamedTuple):
    """Features (n, d) and logits (n, classes) of samples, computed by the base."""

    features: npt.NDArray[Any]
    logits: npt.NDArray[Any]


@dataclass(frozen=True)
class Expected:
    """Accuracy to expect with a number of labels, 0 to 1.

    Attributes:
        factor: labels, in times those at hand.
        labels: their number.
        accuracy: the median.
        low, high: 80 % interval.
    """

    factor: int
    labels: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What more labels would be worth, with the base or a new head, whichever is better.

    Tuning a block can reach more.

    Attributes:
        label_count, class_count: labels at hand, and classes among them.
        base_accuracy: of the base on these samples.
        expected: for each of :data:`FACTORS`; the first is now.
        lacking: classes that more labels should go to first, as they have few or none.
        from_one_stretch: the labels come from one stretch of time, and the interval is wider for that.
        source_accuracy: the card's; None without a card.
    """

    label_count: int
    class_count: int
    base_accuracy: float
    expected: tuple[Expected, ...]
    lacking: tuple[str, ...]
    from_one_stretch: bool
    source_accuracy: float | None

    @property
    def advice(self) -> tuple[str, ...]:
        """What to label, and how to read the figures, a sentence each."""
        now, *_, most = self.expected
        if self.lacking:
            names = ", ".join(self.lacking[:5]) + (" ..." if self.lacking[5:] else "")
            first = f"label {names} first: the other classes have at least twice as many labels"
        elif most.accuracy - now.accuracy < WORTHWHILE and most.high - now.high < WORTHWHILE:
            first = f"even {most.factor} times as many labels would hardly help a new head"
        else:
            first = "spread further labels evenly over the classes"
        base = f"the base ({100 * self.base_accuracy:.0f} % on these samples)"
        sentences = [
            first,
            f"expected of {base} or a new head, whichever is better; tuning a block can reach more",
        ]
        if self.from_one_stretch:
            sentences.append(
                "the samples seem to come from few stretches of time: what comes later may differ, so the "
                "interval is wide; labels from other days say more than further ones from the same day"
            )
        if self.source_accuracy is None:
            sentences.append(
                f"without a source card, {100 * UNKNOWN_SOURCE:.0f} % is taken for the accuracy on the source"
            )
        return tuple(sentences)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "advice": list(self.advice), "line": str(self)}

    def __str__(self) -> str:
        """One line."""
        texts = [
            f"{100 * e.accuracy:.0f} % ({100 * e.low:.0f} to {100 * e.high:.0f}) with {e.labels:,}"
            for e in self.expected
            if e.factor in (1, 2, 10)
        ]
        return f"expected with a new head: {', '.join(texts)} labels"


def is_stretch(samples: Samples) -> bool:
    """Whether samples that are close in time may resemble each other, by their columns and their form.

    Windows of a recording are arrays (n, channels, steps).
    """
    return bool(order_keys(samples, asked=False) or named_groups(samples)) or samples.inputs.ndim == 3


def rows_to_use(samples: Samples, from_one_stretch: bool, limit: int = MAX_LABELS) -> Ints:
    """Positions of the samples to forecast from, at most `limit`; those of a stretch in order of time."""
    order = np.arange(len(samples))
    keys = order_keys(samples, asked=True)
    if from_one_stretch and keys:
        order = np.argsort(positions_in_time(samples, keys), kind="stable")
    return order[spread_evenly(samples.labels[order], limit)]


def forecast_seen(samples: Samples, seen: Seen, source_accuracy: float | None) -> Forecast | None:
    """A forecast from features and logits at hand, in milliseconds; None where labels are too few."""
    stretch = is_stretch(samples)
    rows = rows_to_use(samples, stretch, FEW_LABELS)
    labels = samples.labels[rows]
    if len(labels) < MIN_LABELS or len(np.unique(labels)) < 2:
        return None
    few = Seen(seen.features[rows], seen.logits[rows])
    return forecast_labels(few, labels, samples.class_names, source_accuracy, stretch, len(samples))


def forecast_labels(
    seen: Seen,
    labels: Ints,
    class_names: Sequence[str],
    source_accuracy: float | None = None,
    from_one_stretch: bool = False,
    label_count: int | None = None,
) -> Forecast:
    """Forecast accuracy from the features and logits of labeled samples.

    Args:
        from_one_stretch: the labels come from one stretch of time, and are in order within a class.
        label_count: labels at hand, if these are only some of them.

    Raises:
        DataError: too few labels, or of one class only.
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(labels) < MIN_LABELS or len(present) < 2:
        raise DataError(
            f"{len(labels)} labels of {len(present)} class{'es' * (len(present) != 1)} do not show what more "
            f"would give: a forecast needs at least {MIN_LABELS} labels, of two classes or more"
        )
    problem = head_problem(seen.features, seen.logits, labels)
    points = learning_curve(problem, from_one_stretch)
    law = fit_law(points, len(labels), source_accuracy or UNKNOWN_SOURCE)
    label_count = label_count or len(labels)
    per_class = label_count / len(present)
    widening, transfer = (STRETCH, TRANSFER) if from_one_stretch else (RANDOM, 1.0)
    expected = [
        Expected(f, f * label_count, *widened(law.quantiles(f * per_class, transfer), widening))
        for f in FACTORS
    ]
    return Forecast(
        label_count=label_count,
        class_count=len(present),
        base_accuracy=points[0].accuracy,
        expected=tuple(expected),
        lacking=lacking(dict(zip(present.tolist(), counts.tolist(), strict=True)), class_names),
        from_one_stretch=from_one_stretch,
        source_accuracy=source_accuracy,
    )


def spread_evenly(labels: Ints, limit: int) -> Ints:
    """Positions of at most `limit` samples, evenly from each class, in order."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.linspace(0, len(labels) - 1, limit).astype(int)])


def lacking(counts: dict[int, int], class_names: Sequence[str]) -> tuple[str, ...]:
    """Classes with far fewer labels than the others; more labels should go to them first.

    >>> lacking({0: 10, 1: 12, 2: 3}, ["walk", "run", "sit", "lie"])
    ('sit', 'lie')
    """
    median = float(np.median(list(counts.values())))
    return tuple(name for k, name in enumerate(class_names) if counts.get(k, 0) < LACKING * median)


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
