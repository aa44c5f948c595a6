"""What trials of some options say of the gains of all.

Gains are normally distributed before anything is tried, and so are the differences between gains in a trial
and on other samples. Both are correlated between options: a person who gains from one option gains from
similar ones, and options that were tried on the same samples share their luck. The posterior is the
conditional distribution given the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.choosing.trials import Trial

Floats = npt.NDArray[np.float64]
#: The share of the variance between gains on folds and on other samples that all options have in common.
SHARED = 0.7


@dataclass(frozen=True)
class Prior:
    """The gain in accuracy that is expected of an option at some strength before it is tried.

    Attributes:
        spread: standard deviation.
        correlations: with a few factors that all options share; the same number for each option, or none.
    """

    option: str
    strength: float
    gain: float
    spread: float
    correlations: tuple[float, ...] = ()


def condition(priors: Sequence[Prior], trials: Sequence[Trial | None]) -> tuple[Floats, Floats]:
    """The expected gain of each option and its standard deviation, both (k,), given the trials of some.

    Args:
        priors: of k options and strengths.
        trials: the trial of each; None: it was not tried.
    """
    mean, covariance = np.array([p.gain for p in priors]), _covariance(priors)
    at = [k for k, trial in enumerate(trials) if trial is not None]
    if not at:
        return mean, np.sqrt(np.diag(covariance))
    tried = [trial for trial in trials if trial is not None]
    surprise = np.array([trial.gain for trial in tried]) - mean[at]
    weights = np.linalg.solve(covariance[np.ix_(at, at)] + _noise(tried), covariance[at]).T
    variance = np.diag(covariance) - (weights * covariance[:, at]).sum(1)
    return mean + weights @ surprise, np.sqrt(np.maximum(variance, 0.0))


def _covariance(priors: Sequence[Prior]) -> Floats:
    """Covariance (k, k) of gains before anything is tried."""
    count = max((len(p.correlations) for p in priors), default=0)
    factors = np.array([p.correlations or (0.0,) * count for p in priors]).reshape(len(priors), count)
    correlation = factors @ factors.T
    np.fill_diagonal(correlation, 1.0)
    spread = np.array([p.spread for p in priors])
    return correlation * np.outer(spread, spread)


def _noise(trials: Sequence[Trial]) -> Floats:
    """Covariance (m, m) of what gains in trials differ by from those on other samples."""
    count = np.array([len(trial.rows) for trial in trials])
    rows = 1 + max(int(trial.rows.max()) for trial in trials)
    outcomes = np.zeros((len(trials), rows))
    for outcome, trial in zip(outcomes, trials, strict=True):
        outcome[trial.rows] = trial.changes - trial.gain
    noise = outcomes @ outcomes.T / np.outer(count, count)
    spread = np.array([trial.fold_spread for trial in trials])
    between = SHARED * np.outer(spread, spread)
    # As no change may be seen in few samples, one is added.
    return noise + between + np.diag((1 - SHARED) * spread**2 + 1 / count**2)
