"""How many labels? The accuracy to expect from more of them, with an interval that was checked.

Power laws (``power_law.py``) are fitted to the learning curve of a cheap head (``learning_curve.py``).
``benchmarks/forecast.py`` measures how often the truth lies in the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tbft.choosing.learning_curve import Ints, head_problem, learning_curve
from tbft.choosing.power_law import RANDOM, STRETCH, TRANSFER, fit_law, widened
from tbft.data.origin import Origin
from tbft.data.samples import Samples
from tbft.data.times import find_order
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
#: Gains smaller than this are hardly worth labels.
WORTHWHILE = 0.02
#: A class with less than this share of the labels of the median class lacks labels.
LACKING = 0.8


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
        lacking: classes that more labels should go to first, those with the fewest labels first.
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
            first = f"label {names} first, until all classes have about as many labels"
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
        later = ", on later stretches of time" if self.from_one_stretch else ""
        return f"expected with a new head: {', '.join(texts)} labels{later}"


def rows_to_use(samples: Samples, from_one_stretch: bool, limit: int = MAX_LABELS) -> Ints:
    """Positions of the samples to forecast from, at most `limit`; those of a stretch in order of time."""
    order = np.arange(len(samples))
    if from_one_stretch:
        order = np.argsort(find_order(samples, None, asked=False).ranks)
    return order[spread_evenly(samples.labels[order], limit)]


def forecast_seen(
    samples: Samples, seen: Seen, source_accuracy: float | None, origin: Origin
) -> Forecast | None:
    """A forecast from features and logits at hand, in milliseconds; None where labels are too few."""
    stretch = origin != "random"
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
    class_names = [*class_names, *(f"class {k}" for k in range(len(class_names), seen.logits.shape[1]))]
    if len(labels) < MIN_LABELS or len(present) < 2:
        raise DataError(_too_few(seen, labels, class_names))
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


def _too_few(seen: Seen, labels: Ints, class_names: Sequence[str]) -> str:
    """What can be said without a forecast, and what it needs."""
    present = np.unique(labels)
    right = int((seen.logits.argmax(1) == labels).sum())
    classes = f"{len(present)} class{'es' * (len(present) != 1)}"
    others = [name for k, name in enumerate(class_names) if k not in present]
    of = f", of {', '.join(others[:5])}{' ...' * (len(others) > 5)}" if others else ""
    return (
        f"{len(labels)} labels of {classes} do not show what more would give; the base is right on {right} "
        f"of them. A forecast needs at least {MIN_LABELS} labels, of two classes or more: label further "
        f"samples{of}"
    )


def spread_evenly(labels: Ints, limit: int) -> Ints:
    """Positions of at most `limit` samples, evenly from each class, in order."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.linspace(0, len(labels) - 1, limit).astype(int)])


def lacking(counts: dict[int, int], class_names: Sequence[str]) -> tuple[str, ...]:
    """Classes with fewer labels than the others, the fewest first; more labels should go to them first.

    >>> lacking({0: 10, 1: 12, 2: 3}, ["walk", "run", "sit", "lie"])
    ('lie', 'sit')
    """
    median = float(np.median(list(counts.values())))
    few = [k for k in range(len(class_names)) if counts.get(k, 0) < LACKING * median]
    return tuple(class_names[k] for k in sorted(few, key=lambda k: counts.get(k, 0)))
