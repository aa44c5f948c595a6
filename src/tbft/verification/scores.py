"""Judge scores other than accuracy by a paired bootstrap that is wide enough for few samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tbft.errors import DataError
from tbft.verification.acceptance import MARGIN, MAX_LOSS_CHANCE, Acceptance

Scores = npt.NDArray[np.float64]

#: Number of resamples of the paired bootstrap (Efron 1979).
RESAMPLES = 2000
#: Share of the draws for which one score for all has to be a number; one of a few samples may lack a class.
MIN_USABLE = 0.9
#: With fewer samples no sign test is significant at 5 %, so neither is anything else.
_MIN_COUNT = 6


def judge_scores(before: Scores, after: Scores, *, cautious: bool = True) -> Acceptance:
    """Compare scores of single samples, both (n,); higher is better.

    The differences are resampled together with two pseudo-differences, at the mean plus and minus the largest
    one, and the percentiles are moved outward as Student's t requires (Hesterberg 2015): a plain bootstrap
    is too sure of few samples.

    >>> scores = np.arange(40.0)
    >>> judged = judge_scores(scores, scores + 1)
    >>> judged.gain, judged.verdict, judged.accepted
    (1.0, 'helps', True)
    """
    before = np.asarray(before, np.float64)
    change = np.asarray(after, np.float64) - before
    gain, count = float(change.mean()), len(change)
    # Where nothing changed, a change could be as large as the scores differ.
    largest = float(np.abs(change).max()) or float(np.ptp(before))
    widened = np.concatenate([change, [gain + largest, gain - largest]])
    rows = np.random.default_rng(0).integers(0, len(widened), (RESAMPLES, len(widened)))
    resampled = _stretched(widened[rows].mean(1), gain, len(widened))
    judged = _judged(gain, resampled, count, float(before.mean()), cautious)
    return replace(judged, fixed=int((change > 0).sum()), regressed=int((change < 0).sum()))


def judge_totals(
    total: Callable[[npt.NDArray[np.int64]], tuple[float, float]], count: int, *, cautious: bool = True
) -> Acceptance:
    """Compare scores that are one number for all samples, by a paired bootstrap.

    Args:
        total: (positions of samples, with repetitions) -> scores of the base and of the tuned model on them.
        count: number of samples.

    Raises:
        DataError: they are not finite for all samples, or for too many draws of them.
    """
    generator = np.random.default_rng(0)
    before, after = total(np.arange(count))
    pairs = [total(generator.integers(0, count, count)) for _ in range(RESAMPLES // 10)]
    changes = np.array([b - a for a, b in pairs])
    usable = changes[np.isfinite(changes)]
    if not np.isfinite([before, after]).all() or len(usable) < MIN_USABLE * len(changes):
        raise DataError(
            f"score= is NaN or infinite for {len(changes) - len(usable)} of {len(changes)} random draws of "
            f"the {count} samples that decide (for all of them, {before:.4g} before and {after:.4g} after "
            "tuning), so nothing could be compared: give one number per sample, or more samples"
        )
    resampled = _stretched(usable, after - before, max(count, 2))
    return _judged(after - before, resampled, count, before, cautious)


def _stretched(means: Scores, middle: float, count: int) -> Scores:
    """Resampled means, moved away from the middle so that their percentiles fit samples of this size."""
    factor = _student(count - 1) / NormalDist().inv_cdf(0.975) * sqrt(count / (count - 1))
    return middle + factor * (means - middle)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution.

    >>> round(_student(2), 2), round(_student(30), 2)
    (4.3, 2.04)
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 20_001)  # t = sqrt(freedom) tan(angle)
    below = np.cumsum(np.cos(angles) ** (freedom - 1))
    return float(sqrt(freedom) * np.tan(np.interp(0.975, below / below[-1], angles)))


def _judged(gain: float, resampled: Scores, count: int, base: float, cautious: bool) -> Acceptance:
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
    if count < _MIN_COUNT:
        low, high = min(low, 0.0), max(high, 0.0)
    # Even if all samples agree, the next one may not: as with a uniform prior on the share that gains.
    chance = max(float((resampled < -MARGIN * abs(base)).mean()), 0.5 ** (count + 1))
    return Acceptance(
        count=count,
        fixed=0,
        regressed=0,
        gain=gain,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=gain > 0 and (low > 0 or chance <= MAX_LOSS_CHANCE or not cautious),
        loss_chance=chance,
        cautious=cautious,
        unit="score",
    )
