"""Did it help? The gain on held-out labels, with an interval that is honest for few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tbft.verification.binomial import proportion_interval

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Acceptance:
    """The base and the tuned model on the same held-out labeled samples.

    Attributes:
        count: held-out samples.
        fixed, regressed: samples that only the tuned, or only the base model gets right.
        gain: in accuracy, -1 to 1.
        low, high: 95 % interval of the gain.
        verdict: ``helps``, ``harms``, or ``cannot tell`` where the interval holds zero.
        accepted: whether the tuned model is kept; it is undone if more regressed than were fixed.
    """

    count: int
    fixed: int
    regressed: int
    gain: float
    low: float
    high: float
    verdict: str
    accepted: bool
    unit: str = "points"

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
    fixed = int(((after == labels) & (before != labels)).sum())
    regressed = int(((after != labels) & (before == labels)).sum())
    changed, count = fixed + regressed, len(labels)
    low, high = proportion_interval(fixed, changed) if changed else (0.5, 0.5)
    low, high = ((2 * share - 1) * changed / count for share in (low, high))
    return Acceptance(
        count=count,
        fixed=fixed,
        regressed=regressed,
        gain=(fixed - regressed) / count,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=fixed >= regressed,
    )


#: Resamples of the paired bootstrap (Efron 1979); its interval is by percentiles.
RESAMPLES = 2000


def compare_scores(before: Scores, after: Scores) -> Acceptance:
    """Judge a tuned model by the score of each sample, higher being better, (n,) each.

    The interval is that of a paired bootstrap: samples are drawn again, with what base and tuned model
    make of them kept together.

    >>> scores = np.arange(40.0)
    >>> judged = compare_scores(scores, scores + 1)
    >>> judged.gain, judged.verdict, judged.accepted
    (1.0, 'helps', True)
    """
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    at = np.random.default_rng(0).integers(0, len(change), (RESAMPLES, len(change)))
    return _judged(change, change[at].mean(1))


def compare_totals(total: Callable[[npt.NDArray[np.int64]], tuple[float, float]], count: int) -> Acceptance:
    """The same for a score that is one number for all samples.

    Args:
        total: positions of samples, with repeats -> the score of base and of tuned model on them.
    """
    generator = np.random.default_rng(0)
    before, after = total(np.arange(count))
    pairs = [total(generator.integers(0, count, count)) for _ in range(RESAMPLES // 10)]
    resampled = np.array([b - a for a, b in pairs])
    judged = _judged(np.array([after - before]), resampled)
    return replace(judged, count=count, fixed=0, regressed=0)


def _judged(change: Scores, resampled: Scores) -> Acceptance:
    low, high = np.quantile(resampled, [0.025, 0.975])
    gain = float(change.mean())
    return Acceptance(
        count=len(change),
        fixed=int((change > 0).sum()),
        regressed=int((change < 0).sum()),
        gain=gain,
        low=float(low),
        high=float(high),
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=gain > 0,
        unit="score",
    )
