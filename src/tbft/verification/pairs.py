"""Statistics of paired outcomes: how many samples were fixed and how many regressed, in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Pseudo-counts of fixed and of regressed samples in the interval, and its correction for continuity, in
#: samples. Found by exact enumeration, see ``benchmarks/acceptance.py``.
PSEUDO_COUNT, CORRECTION = 1.5, 0.75
#: Standard deviation between a gain on some samples and on others, apart from their number, by how they came
#: about, see :func:`tbft.data.origin.origin_of`.
ORIGIN_SPREADS = {"random": 0.05, "unknown": 0.05, "stretch": 0.15}
#: How many squared errors of a measured gain count as chance where it differs from the expected one. Set on
#: motion and pictures: 2 to 4 do as well, and both less and more are worse.
UNEXPLAINED = 3.0
#: Prior of the shares of fixed, regressed and unchanged samples: uniform.
PRIOR = (1.0, 1.0, 1.0)


def paired_interval(
    fixed: float, regressed: float, count: float, coverage: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of the difference between two paired proportions.

    Bonett and Price's adjusted Wald interval (2012) with larger pseudo-counts and a correction for
    continuity: so its coverage holds for any rates, even where nothing changed.

    Args:
        fixed, regressed: samples on which only the second, or only the first is correct.
        count: number of samples.

    Returns:
        limits of the gain, from -1 to 1.

    >>> low, high = paired_interval(0, 0, 100)
    >>> round(low, 3), round(high, 3)
    (-0.04, 0.04)
    """
    total = count + 2 * PSEUDO_COUNT
    gains, losses = (fixed + PSEUDO_COUNT) / total, (regressed + PSEUDO_COUNT) / total
    middle = gains - losses
    z = NormalDist().inv_cdf((1 + coverage) / 2)
    half = z * sqrt((gains + losses - middle**2) / total) + CORRECTION / total
    return max(middle - half, -1.0), min(middle + half, 1.0)


def loss_chance(fixed: float, regressed: float, count: float, margin: float) -> float:
    """Posterior probability that the second is worse by more than `margin`, with a uniform prior.

    The share c of changed samples and the share s of them that are fixed have independent Beta posteriors,
    and the gain is c (2 s - 1).

    Args:
        margin: a share of the samples, 0 to 1.

    >>> round(loss_chance(6, 1, 50, margin=0.01), 3)
    0.023
    """
    changed, unchanged = fixed + regressed, count - fixed - regressed
    changed_share, changed_weight = _beta(changed + PRIOR[0] + PRIOR[1], unchanged + PRIOR[2])
    fixed_share, fixed_weight = _beta(fixed + PRIOR[0], regressed + PRIOR[1])
    below = np.cumsum(fixed_weight) - fixed_weight / 2
    chances = np.interp((1 - margin / changed_share) / 2, fixed_share, below, left=0, right=1)
    return min(float(changed_weight @ chances), 1.0)


def loss_chance_later(fixed: float, regressed: float, count: float, margin: float, spread: float) -> float:
    """Probability that the second is worse by more than `margin` on samples of another time.

    A normal approximation: the gain on those varies around the gain on these.

    Args:
        spread: standard deviation of the gain at other times around that on these.

    >>> few, many = (loss_chance_later(n // 10, 0, n, 0.01, 0.15) for n in (40, 4000))
    >>> round(few, 2), round(many, 2)
    (0.25, 0.23)
    """
    gain = (fixed - regressed) / count
    variance = ((fixed + regressed + 2) / (count + 2) - gain**2) / count
    return NormalDist().cdf((-margin - gain) / sqrt(max(variance, 0.0) + spread**2))


@dataclass(frozen=True)
class ExpectedGain:
    """A gain in accuracy, -1 to 1, and its standard deviation: a normal distribution."""

    mean: float
    spread: float

    def given(self, gain: float, error: float) -> ExpectedGain:
        """The posterior, given a measured gain with its standard error: a mean weighted by inverse variances.

        The prior has heavy tails: where the measurement differs from it by more than its own error explains,
        gains are taken to vary that much.

        >>> after = ExpectedGain(0.1, 0.05).given(0.2, 0.05)
        >>> round(after.mean, 3), round(after.spread, 3)
        (0.15, 0.035)
        """
        surprise, noise = gain - self.mean, error**2
        variance = max(self.spread**2, surprise**2 - UNEXPLAINED * noise)
        weight = variance / (variance + noise)
        return ExpectedGain(self.mean + weight * surprise, sqrt(weight * noise))

    def loss_chance(self, margin: float) -> float:
        """The probability of losing more than `margin`."""
        return NormalDist(self.mean, max(self.spread, 1e-9)).cdf(-margin)


def gain_error(fixed: float, regressed: float, count: float, spread: float) -> float:
    """Standard error of a gain on other samples; one changed outcome is added, as none may be seen.

    Args:
        spread: standard deviation between gains on these and on other samples, whatever their number.
    """
    gain, changed = (fixed - regressed) / count, (fixed + regressed) / count
    return sqrt((changed - gain**2) / count + 1 / count**2 + spread**2)


def design_effect(change: Array, groups: npt.NDArray[np.int64]) -> float:
    """How many times fewer independent samples there are, if outcomes within groups are alike; at least 1.

    The variance of the mean with groups as units over that with samples as units (Kish 1965).

    Args:
        change: change of each sample (n,).
        groups: the group of each sample (n,), numbers.

    >>> change = np.repeat([1.0, 0.0, 1.0, 0.0], 5)
    >>> round(design_effect(change, np.repeat([0, 1, 2, 3], 5)), 2)  # five samples are worth less than one
    6.67
    """
    deviations = change - change.mean()
    _, members = np.unique(groups, return_inverse=True)
    count = int(members.max()) + 1
    single = float((deviations**2).sum())
    if count < 2 or single == 0:
        return 1.0
    grouped = float((np.bincount(members, deviations) ** 2).sum()) * count / (count - 1)
    return min(max(1.0, grouped / single), len(change) / 2)


def _beta(a: float, b: float, nodes: int = 401) -> tuple[Array, Array]:
    """Values of a Beta variable, evenly spaced on the logit scale, and their weights, which sum to 1."""
    middle, spread = np.log(a / b), np.sqrt(1 / a + 1 / b)
    logits = middle + np.linspace(-10, 10, nodes) * spread
    logs = -a * np.logaddexp(0, -logits) - b * np.logaddexp(0, logits)
    weights = np.exp(logs - logs.max())
    return 1 / (1 + np.exp(-logits)), weights / weights.sum()
