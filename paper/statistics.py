"""Means over few repeats, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from tbft.errors import needs


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % confidence interval by Student's t; None for a single value.

    Raises:
        MissingExtraError: SciPy is not installed.

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    >>> interval([0.5])
    (0.5, None)
    """
    if len(values) < 2:
        return fmean(values), None
    with needs("scipy", "paper"):
        from scipy.stats import t
    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
