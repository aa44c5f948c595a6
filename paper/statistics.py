"""Means and their intervals over few repeats. No torch, no NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % confidence interval by Student's t; None of one value.

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    >>> interval([0.5])
    (0.5, None)
    """
    if len(values) < 2:
        return fmean(values), None
    return fmean(values), t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def t_quantile(degrees: int, probability: float = 0.975) -> float:
    """The quantile of Student's t distribution, by bisection.

    >>> [round(t_quantile(n), 3) for n in (1, 2, 9, 1000)]
    [12.706, 4.303, 2.262, 1.962]
    """
    low, high = 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        if t_distribution(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_distribution(t: float, degrees: int) -> float:
    """The cumulative distribution of Student's t for whole degrees of freedom and t from 0.

    The finite series of Abramowitz & Stegun, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(degrees))
    cosine, odd = math.cos(theta), degrees % 2 == 1
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 if odd else 1, degrees if odd else degrees - 1, 2):
        total += term
        term *= cosine**2 * (k / (k + 1))
    inside = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * (total + term)
    return 0.5 + inside / 2
