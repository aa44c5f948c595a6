"""Exact binomial statistics for any number of trials, computed in log space to avoid overflow."""

from __future__ import annotations

from math import exp, lgamma, log, log1p


def binomial_cdf(successes: int, count: int, rate: float) -> float:
    """Probability of at most this many successes in `count` trials with success probability `rate`.

    >>> round(binomial_cdf(2, 10, 0.5), 4), round(binomial_cdf(1200, 2400, 0.5), 4)
    (0.0547, 0.5081)
    """
    if successes >= count or rate <= 0:
        return 1.0
    if successes < 0 or rate >= 1:
        return 0.0
    log_success, log_failure, log_factorial = log(rate), log1p(-rate), lgamma(count + 1)
    terms = (
        log_factorial - lgamma(k + 1) - lgamma(count - k + 1) + k * log_success + (count - k) * log_failure
        for k in range(successes + 1)
    )
    return min(1.0, sum(exp(term) for term in terms))
