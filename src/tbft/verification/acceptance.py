"""Did it help? The gain on held-out labels, with an interval that is honest for few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

#: Two-sided; an interval covers the truth in so many cases of a hundred.
COVERAGE = 0.95


@dataclass(frozen=True)
class Acceptance:
    """The base and the tuned model on the same held-out labeled samples.

    Attributes:
        count: held-out samples.
        mended, broken: samples that only the tuned, or only the base model gets right.
        gain: in accuracy, -1 to 1.
        low, high: 95 % interval of the gain.
        verdict: ``helps``, ``harms``, or ``cannot tell`` where the interval holds zero.
        accepted: whether the tuned model is kept; it is undone if it broke more than it mended.
    """

    count: int
    mended: int
    broken: int
    gain: float
    low: float
    high: float
    verdict: str
    accepted: bool

    def __str__(self) -> str:
        said = {"helps": "it helps", "harms": "it harms", "cannot tell": "too few labels to tell"}[
            self.verdict
        ]
        return (
            f"{100 * self.gain:+.1f} points on {self.count} held-out labels "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}): {said}"
        )


def compare(labels: Labels, before: Labels, after: Labels) -> Acceptance:
    """Judge a tuned model by predictions on samples that neither training nor choosing has seen.

    The interval is exact given how many outcomes changed: of these, the share that got better is a
    binomial proportion (Clopper and Pearson 1934; the test is McNemar's, 1947).

    Args:
        labels, before, after: true labels, and what base and tuned model predict, (n,).

    >>> right, wrong = np.zeros(20, np.int64), np.ones(20, np.int64)
    >>> print(compare(right, wrong, right))
    +100.0 points on 20 held-out labels (95 % interval +66.3 to +100.0): it helps
    """
    mended = int(((after == labels) & (before != labels)).sum())
    broken = int(((after != labels) & (before == labels)).sum())
    changed, count = mended + broken, len(labels)
    low, high = proportion_interval(mended, changed) if changed else (0.5, 0.5)
    low, high = ((2 * share - 1) * changed / count for share in (low, high))
    return Acceptance(
        count=count,
        mended=mended,
        broken=broken,
        gain=(mended - broken) / count,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=mended >= broken,
    )


def proportion_interval(successes: int, count: int, coverage: float = COVERAGE) -> tuple[float, float]:
    """Clopper-Pearson interval of a binomial proportion, by bisection.

    >>> low, high = proportion_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.444, 0.975)
    """
    tail = (1 - coverage) / 2

    def at_least(share: float, k: int) -> float:
        return sum(comb(count, i) * share**i * (1 - share) ** (count - i) for i in range(k, count + 1))

    low = 0.0 if successes == 0 else _bisected(lambda p: at_least(p, successes) > tail)
    high = 1.0 if successes == count else _bisected(lambda p: at_least(p, successes + 1) > 1 - tail)
    return low, high


def _bisected(beyond: Callable[[float], bool]) -> float:
    """Where a condition that holds from some share on begins to."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high
