"""What accuracy each option is expected to reach: a prior, corrected by trials on the user's own labels.

The prior gain of an option is a share of what the base model gets wrong, measured on several families
(:mod:`tbft.choosing.gains`). For pictures and models with BatchNorm, the levels of drift tell more: there the
prior follows ``expectations.json``. The trials weigh the more, the more labels there are, and what they say
of one option also holds for similar ones (:mod:`tbft.choosing.posterior`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tbft.blocks.arm import Arm
from tbft.choosing.expectations import expected_accuracies
from tbft.choosing.gains import Gain, Gains, fitted_gains, gain_of
from tbft.choosing.options import Option
from tbft.choosing.posterior import Prior, condition
from tbft.choosing.trials import Trial, Trials, strengths_of
from tbft.diagnosis.levels import Diagnosis

#: Standard deviation of gains around expectations that were fitted on pictures.
FITTED_SPREAD = 0.08


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
    base, table = smoothed(labels.accuracy, diagnosis.evidence.samples), fitted_gains()
    priors: list[Prior] = []
    for option in options:
        if option.name in fitted or (known and option.name not in trials.options):
            priors.append(_fitted_prior(option, base, fitted))
        else:
            priors += priors_of(option, base, table)
    tried = {(trial.option, trial.strength): trial for trial in trials.trials}
    found = {"none": Estimate(base, 0.0, 1.0, base)}
    return found | best_strengths([p for p in priors if p.option != "none"], tried, base)


def best_strengths(
    priors: Sequence[Prior], tried: Mapping[tuple[str, float], Trial], base: float
) -> dict[str, Estimate]:
    """Option -> what it is expected to reach at its best strength.

    Args:
        tried: (option, strength) -> its trial.
        base: accuracy of the base.
    """
    trials = [tried.get((prior.option, prior.strength)) for prior in priors]
    found: dict[str, Estimate] = {}
    for prior, trial, gain, spread in zip(priors, trials, *condition(priors, trials), strict=True):
        estimate = Estimate(
            accuracy=_within(base + gain),
            spread=float(spread),
            strength=prior.strength,
            prior=_within(base + prior.gain),
            tried=0 if trial is None else len(trial.rows),
            measured=None if trial is None else float(trial.correct.mean()),
        )
        if prior.option not in found or estimate.accuracy > found[prior.option].accuracy:
            found[prior.option] = estimate
    return found


def smoothed(accuracy: float, count: int) -> float:
    """The posterior mean of a proportion with a flat prior."""
    return (accuracy * count + 1) / (count + 2)


def priors_of(option: Option, base: float, table: Gains) -> list[Prior]:
    """What is expected of an option at each strength, whatever the level."""
    strengths = strengths_of(Arm.of(option.arm), option.statistics.adapts)
    return [prior_of(option.name, s, gain_of(option.role, s, table), base) for s in strengths]


def prior_of(option: str, strength: float, gain: Gain, base: float) -> Prior:
    """What is expected of an option at a strength, given its gain on several families."""
    return Prior(option, strength, gain.mean(base), gain.spread(base), gain.correlations)


def _fitted_prior(option: Option, base: float, fitted: Mapping[str, float]) -> Prior:
    """What is expected of an option at the level of drift.

    Nothing is expected of the weights of an option that does not suit the level, nor do trials of others say
    anything of them; adapted statistics are worth what AdaBN is.
    """
    gain = gain_of(option.role, 1.0, fitted_gains())
    if option.name in fitted:
        expected = fitted[option.name] - fitted["none"]
        return Prior(option.name, 1.0, expected, FITTED_SPREAD, gain.correlations)
    spread = gain.spread(base)
    if not option.statistics.adapts or "adabn" not in fitted:
        return Prior(option.name, 1.0, 0.0, spread)
    shared = min(FITTED_SPREAD / spread, 1.0)
    correlations = gain_of("adabn", 1.0, fitted_gains()).correlations
    return Prior(
        option.name, 1.0, fitted["adabn"] - fitted["none"], spread, tuple(shared * c for c in correlations)
    )


def _within(accuracy: float) -> float:
    return min(max(float(accuracy), 0.0), 1.0)
