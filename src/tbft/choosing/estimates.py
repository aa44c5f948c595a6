"""What accuracy each option is expected to reach: a prior, corrected by trials on the user's own labels.

The prior gain of an option is a share of what the base model gets wrong, measured on several families
(``gains.json``, made by ``benchmarks/families_choice.py``). For pictures and models with BatchNorm, the
levels of drift tell more: there the prior follows ``expectations.json``. The trials weigh the more, the more
labels there are and the more they disagree with the base model: the posterior mean of two normal
distributions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from math import sqrt
from typing import Any

from tbft.blocks.arm import Arm
from tbft.choosing.expectations import expected_accuracies
from tbft.choosing.options import Option
from tbft.choosing.trials import Trial, Trials, strengths_of
from tbft.diagnosis.levels import Diagnosis

#: Standard deviation of gains around the prior: as a share of the base's errors, and in addition to that.
GENERIC_SPREAD, MIN_SPREAD = 0.13, 0.01
#: The same around expectations that were fitted on pictures.
FITTED_SPREAD = 0.08
#: How many squared errors of a trial count as chance where it differs from the prior. Set on motion and
#: pictures: 2 to 4 do as well, and both less and more are worse.
UNEXPLAINED = 3.0
#: Standard deviation of the share of expected gains that an unknown family keeps.
SLOPE_SPREAD = 0.7
#: Accuracies of the base at which drift counts as heavy and as mild; in between, gains are interpolated.
HEAVY, MILD = 0.3, 0.8


@dataclass(frozen=True)
class Estimate:
    """What an option is expected to reach.

    Attributes:
        accuracy: expected accuracy, 0 to 1.
        spread: standard deviation of the expectation.
        strength: the best strength, see :class:`tbft.plan.Recipe`.
        prior: the accuracy expected before anything was tried.
        tried: number of labels it was tried on; 0: only expected.
        measured: accuracy in the trial, on folds that were not tuned on; None: not tried.
    """

    accuracy: float
    spread: float
    strength: float
    prior: float
    tried: int = 0
    measured: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


#: Role -> strength -> gain as a share of the base's errors under heavy and under mild drift.
Gains = Mapping[str, Mapping[str, tuple[float, float]]]


@cache
def gains() -> Gains:
    """The gains that were fitted on several families."""
    text = files("tbft.choosing").joinpath("gains.json").read_text()
    table: Gains = json.loads(text)["gains"]
    return table


def expected_gain(option: Option, strength: float, base: float, table: Gains | None = None) -> float:
    """The gain in accuracy that is expected of an option whatever the level, given the base's accuracy."""
    heavy, mild = (table or gains()).get(option.role, {}).get(f"{strength:g}", (0.0, 0.0))
    share = min(max((base - HEAVY) / (MILD - HEAVY), 0.0), 1.0)
    return (heavy + share * (mild - heavy)) * (1 - base)


def estimate(
    diagnosis: Diagnosis, options: Sequence[Option], trials: Trials | None = None, known: bool = True
) -> dict[str, Estimate]:
    """Option -> what it is expected to reach; without labels only those of which something is known.

    Args:
        known: whether the samples are pictures and the model has BatchNorm, as where ``expectations.json``
            was fitted. Options that do not suit the level are then expected to gain nothing unless tried.
    """
    labels, trials = diagnosis.evidence.labels, trials or Trials()
    fitted = expected_accuracies(diagnosis, options) if known or labels is None else {}
    if labels is None:
        return {name: Estimate(value, FITTED_SPREAD, 1.0, value) for name, value in fitted.items()}
    base = smoothed(labels.accuracy, diagnosis.evidence.samples)
    unsuited = {o.name for o in options if known and o.name not in trials.options}
    priors = {o.name: _priors(o, base, fitted, o.name in unsuited) for o in options if o.role != "none"}
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


def _priors(option: Option, base: float, fitted: Mapping[str, float], unsuited: bool) -> list[Estimate]:
    """What is expected of an option at each strength before anything was tried.

    Args:
        unsuited: whether nothing is expected of its weights unless it was fitted for this level; adapted
            statistics are then worth what AdaBN is.
    """
    spread = generic_spread(base)
    if option.name in fitted or unsuited:
        like = option.name if option.name in fitted else "adabn" if option.statistics.adapts else "none"
        gain = fitted[like] - fitted["none"] if like in fitted else 0.0
        accuracy = min(max(base + gain, 0.0), 1.0)
        return [Estimate(accuracy, FITTED_SPREAD if like == option.name else spread, 1.0, accuracy)]
    strengths = strengths_of(Arm.of(option.arm), option.statistics.adapts)
    accuracies = [base + expected_gain(option, s, base) for s in strengths]
    return [Estimate(a, spread, s, a) for s, a in zip(strengths, accuracies, strict=True)]


def posterior_of(option: Option, trial: Trial, base: float, table: Gains) -> Estimate:
    """What a tried option is expected to reach at the strength of the trial, whatever the level.

    A trial on no rows leaves the prior.
    """
    accuracy = base + expected_gain(option, trial.strength, base, table)
    prior = Estimate(accuracy, generic_spread(base), trial.strength, accuracy)
    return _posterior(prior, base, trial if len(trial.rows) else None)


def generic_spread(base: float) -> float:
    """The standard deviation of gains around what is expected whatever the level."""
    return MIN_SPREAD + GENERIC_SPREAD * (1 - base)


def _lowered(prior: Estimate, base: float, kept: float) -> Estimate:
    """The prior with a share of its gain."""
    gain = prior.accuracy - base
    return replace(prior, accuracy=base + kept * gain) if gain > 0 else prior


def _posterior(prior: Estimate, base_accuracy: float, trial: Trial | None) -> Estimate:
    """The prior, corrected by a trial: the mean weighted by inverse variances.

    The prior has heavy tails: where the trial differs from it by more than its own error explains, gains of
    this family are taken to vary that much.
    """
    if trial is None:
        return prior
    surprise, error = trial.gain - (prior.accuracy - base_accuracy), trial.error**2
    variance = max(prior.spread**2, surprise**2 - UNEXPLAINED * error)
    weight = variance / (variance + error)
    return replace(
        prior,
        accuracy=min(max(prior.accuracy + weight * surprise, 0.0), 1.0),
        spread=sqrt(weight * error),
        tried=len(trial.rows),
        measured=float(trial.correct.mean()),
    )
