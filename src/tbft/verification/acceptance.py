"""Decide whether tuning helped: the gain on held-out samples, with an interval that is valid for few."""

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
    """The base model compared with the tuned model on the same held-out samples.

    Attributes:
        count: number of held-out samples.
        fixed, regressed: samples on which only the tuned, or only the base model is correct; with a score,
            samples whose score rose or fell.
        gain: gain in accuracy, -1 to 1; with a score, the gain in the mean score.
        low, high: 95 % confidence interval of the gain.
        verdict: ``helps``, ``harms``, or ``cannot tell`` if the interval contains zero.
        accepted: whether the tuned model is kept.
        unit: ``points`` of accuracy, or ``score``.
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
        verdicts = {"helps": "it helps", "harms": "it harms", "cannot tell": "too few labels to tell"}
        return (
            f"{100 * self.gain:+.1f} points on {self.count} held-out labels "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}): {verdicts[self.verdict]}"
        )


def compare(labels: Labels, before: Labels, after: Labels) -> Acceptance:
    """Compare predictions on samples that were used neither for training nor for choosing.

    The interval is exact given the number of changed outcomes: the share of them that improved is a
    binomial proportion (Clopper and Pearson 1934; the test is McNemar's, 1947). The tuned model is accepted
    unless more samples regressed than were fixed.

    Args:
        labels, before, after: true labels, and predictions of the base and of the tuned model, all (n,).

    >>> correct, wrong = np.zeros(20, np.int64), np.ones(20, np.int64)
    >>> print(compare(correct, wrong, correct))
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


#: Number of resamples of the paired bootstrap (Efron 1979) with percentile intervals.
RESAMPLES = 2000


def compare_scores(before: Scores, after: Scores) -> Acceptance:
    """Compare scores of single samples, both (n,); higher is better.

    The interval comes from a paired bootstrap, which resamples the differences. The tuned model is accepted
    if the mean score rose.

    >>> scores = np.arange(40.0)
    >>> judged = compare_scores(scores, scores + 1)
    >>> judged.gain, judged.verdict, judged.accepted
    (1.0, 'helps', True)
    """
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    rows = np.random.default_rng(0).integers(0, len(change), (RESAMPLES, len(change)))
    return _judged(change, change[rows].mean(1))


def compare_totals(total: Callable[[npt.NDArray[np.int64]], tuple[float, float]], count: int) -> Acceptance:
    """Compare scores that are one number for all samples, by a paired bootstrap.

    Args:
        total: (positions of samples, with repetitions) -> scores of the base and of the tuned model on them.
        count: number of samples.
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
