"""What accuracy each option is expected to reach: a prior, corrected by trials on the user's own labels.

The prior gain of an option is that of several families, see :mod:`tbft.choosing.gains`. For pictures and
models with BatchNorm, the levels of drift tell more: there the prior follows ``expectations.json``. The
trials weigh the more, the more labels there are and the more they disagree with the base model: the posterior
mean of two normal distributions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tbft.blocks.arm import Arm
from tbft.choosing.expectations import expected_accuracies
from tbft.choosing.gains import Gains, gains_for
from tbft.choosing.options import Option
from tbft.choosing.trials import Trial, Trials, strengths_of
from tbft.data.origin import Origin
from tbft.diagnosis.levels import Diagnosis
from tbft.verification.pairs import ExpectedGain

#: Standard deviation of gains around expectations that were fitted on pictures.
FITTED_SPREAD = 0.08
#: Standard deviation of the share of expected gains that an unknown family keeps.
SLOPE_SPREAD = 0.7


@dataclass(frozen=True)
class Estimate:
    """What an option is expected to reach.

    Attributes:
        accuracy: expected accuracy, 0 to 1.
        spread: standard deviation of the expectation.
        strength: the best strength, see :class:`tbft.plan.Recipe`.
        prior: the accuracy expected before anything was tried.
        expected: the gain expected before this option was tried, but after the others were; None without
            labels.
        tried: number of labels it was tried on; 0: only expected.
        measured: accuracy in the trial, on folds that were not tuned on; None: not tried.
    """

    accuracy: float
    spread: float
    strength: float
    prior: float
    expected: ExpectedGain | None = None
    tried: int = 0
    measured: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def estimate(
    diagnosis: Diagnosis,
    options: Sequence[Option],
    trials: Trials | None = None,
    known: bool = True,
    origin: Origin = "random",
) -> dict[str, Estimate]:
    """Option -> what it is expected to reach; without labels only those of which something is known.

    Args:
        known: whether the samples are pictures and the model has BatchNorm, as where ``expectations.json``
            was fitted. Options that do not suit the level are then expected to gain nothing unless tried.
        origin: how the samples came about.
    """
    labels, trials = diagnosis.evidence.labels, trials or Trials()
    fitted = expected_accuracies(diagnosis, options) if known or labels is None else {}
    if labels is None:
        return {name: Estimate(value, FITTED_SPREAD, 1.0, value) for name, value in fitted.items()}
    base = smoothed(labels.accuracy, diagnosis.evidence.samples)
    unsuited = {o.name for o in options if known and o.name not in trials.options}
    gains = gains_for(diagnosis, origin)
    priors = {
        o.name: _fitted(o, base, fitted, gains, o.name in unsuited) or _generic(o, base, gains)
        for o in options
        if o.role != "none"
    }
    found = {"none": Estimate(base, 0.0, 1.0, base)}
    for name, expected in priors.items():
        tried = {trial.strength: trial for trial in trials.of(name)}
        kept = kept_share({k: p for k, p in priors.items() if k != name}, base, trials)
        lowered = [_lowered(prior, base, kept) for prior in expected]
        posteriors = [_posterior(prior, base, tried.get(prior.strength)) for prior in lowered]
        found[name] = max(posteriors, key=lambda e: e.accuracy)
    return found


def kept_share(priors: Mapping[str, Sequence[Estimate]], base: float, trials: Trials) -> float:
    """The share, 0 to 1, of expected gains that some options have kept when tried.

    If they fall short of what was expected of them, others will, too. It is the slope of a regression of
    measured on expected gains, with 1 as its prior mean.
    """
    slope_prior = 1 / SLOPE_SPREAD**2
    above = below = slope_prior
    for name, expected in priors.items():
        tried = {trial.strength: trial for trial in trials.of(name)}
        for prior in expected:
            trial, gain = tried.get(prior.strength), prior.accuracy - base
            if trial is not None and prior.strength == 1.0 and gain > 0:
                above += gain * trial.gain / trial.error**2
                below += gain**2 / trial.error**2
    return min(max(above / below, 0.0), 1.0)


def smoothed(accuracy: float, count: int) -> float:
    """The posterior mean of a proportion with a flat prior."""
    return (accuracy * count + 1) / (count + 2)


def _fitted(
    option: Option, base: float, fitted: Mapping[str, float], gains: Gains, unsuited: bool
) -> list[Estimate]:
    """What is expected of an option for the level of drift; nothing where that was not fitted.

    Args:
        unsuited: whether nothing is expected of its weights unless it was fitted for this level; adapted
            statistics are then worth what AdaBN is.
    """
    if option.name not in fitted and not unsuited:
        return []
    like = option.name if option.name in fitted else "adabn" if option.statistics.adapts else "none"
    gain = fitted[like] - fitted["none"] if like in fitted else 0.0
    spread = FITTED_SPREAD if like == option.name else gains.spread_at(base)
    return [_untried(base, ExpectedGain(gain, spread), 1.0)]


def _generic(option: Option, base: float, gains: Gains) -> list[Estimate]:
    """What is expected of an option at each strength, whatever the level."""
    strengths = strengths_of(Arm.of(option.arm), option.statistics.adapts)
    return [_untried(base, gains.of(option, strength, base), strength) for strength in strengths]


def _untried(base: float, expected: ExpectedGain, strength: float) -> Estimate:
    accuracy = min(max(base + expected.mean, 0.0), 1.0)
    expected = replace(expected, mean=accuracy - base)
    return Estimate(accuracy, expected.spread, strength, accuracy, expected)


def posterior_of(option: Option, trial: Trial, base: float, gains: Gains) -> Estimate:
    """What a tried option is expected to reach at the strength of the trial, whatever the level.

    A trial on no rows leaves the prior.
    """
    prior = _untried(base, gains.of(option, trial.strength, base), trial.strength)
    return _posterior(prior, base, trial if len(trial.rows) else None)


def _lowered(prior: Estimate, base: float, kept: float) -> Estimate:
    """The prior with a share of its gain."""
    gain = kept * (prior.accuracy - base)
    if gain <= 0 or prior.expected is None:
        return prior
    return replace(prior, accuracy=base + gain, expected=replace(prior.expected, mean=gain))


def _posterior(prior: Estimate, base: float, trial: Trial | None) -> Estimate:
    """The prior, corrected by a trial."""
    if trial is None or prior.expected is None:
        return prior
    found = prior.expected.given(trial.gain, trial.error)
    return replace(
        prior,
        accuracy=min(max(base + found.mean, 0.0), 1.0),
        spread=found.spread,
        tried=len(trial.rows),
        measured=float(trial.correct.mean()),
    )
