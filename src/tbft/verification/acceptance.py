"""Decide whether tuning helped, and whether to keep it: the gain on labeled samples that it did not see.

The answer is one of three: it helps, it harms, or the labels cannot tell. What is kept in the third case
follows a rule, see ``docs/acceptance.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.origin import Origin
from tbft.errors import DataError
from tbft.verification.pairs import (
    SPREADS,
    ExpectedGain,
    design_effect,
    gain_error,
    loss_chance,
    loss_chance_later,
    paired_interval,
)

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: A loss that matters: of accuracy, or of a score relative to the base's.
MARGIN = 0.01
#: Maximum chance of such a loss with which the cautious rule keeps the tuned model on the word of the labels
#: alone. It is below the promised 5 % because outcomes are whole numbers, and because the models of a
#: cross-fit differ from the final one.
MAX_LOSS_CHANCE = 0.04
#: The same of the chance on later samples, where few labels are, or may be, from one stretch of time. The
#: first was set on people (phone, watch, WISDM), the other is a gain of 9 points.
MAX_LATER_LOSS_CHANCE = {"stretch": 0.15, "unknown": 0.25}
#: The same of the chance with what was expected of the plan as a prior.
MAX_EXPECTED_LOSS_CHANCE = 0.05


@dataclass(frozen=True)
class Acceptance:
    """The base model compared with the tuned model on the same samples.

    Attributes:
        count: number of samples.
        fixed, regressed: samples on which only the tuned, or only the base model is correct; with a score,
            samples whose score rose or fell.
        gain: gain in accuracy, -1 to 1; with a score, the gain in the mean score.
        low, high: 95 % confidence interval of the gain.
        verdict: ``helps``, ``harms``, or ``cannot tell`` if the interval contains zero.
        accepted: whether the tuned model is kept.
        loss_chance: probability of a loss that matters: of more than 1 point of accuracy, or more than 1 %
            of the base's score.
        cautious: the rule. The tuned model is kept if the gain is positive and, if cautious, the labels alone
            say so (`loss_chance` is at most 4 %, and `later_loss_chance` at most 15 %, or 25 % where nobody
            knows whether they are from one stretch), or `expected_loss_chance` is at most 5 %.
        unit: ``points`` of accuracy, or ``score``.
        cross_fitted: whether each sample was judged by a model tuned on other folds, instead of the final
            model by samples held out.
        design_effect: how many samples of the same group count as one, at least 1.
        origin: how the samples came about, see :func:`tbft.data.origin.origin_of`.
        later_loss_chance: the same as `loss_chance` for later samples, where these come, or may come, from
            one stretch of time; None: they do not.
        expected_loss_chance: the same as `loss_chance` with what was expected of the plan as a prior; None:
            nothing was expected.
    """

    count: int
    fixed: int
    regressed: int
    gain: float
    low: float
    high: float
    verdict: str
    accepted: bool
    loss_chance: float
    cautious: bool = True
    unit: str = "points"
    cross_fitted: bool = False
    design_effect: float = 1.0
    origin: Origin = "random"
    later_loss_chance: float | None = None
    expected_loss_chance: float | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the labels alone say that a loss is improbable."""
        return self.loss_chance <= MAX_LOSS_CHANCE and not self.is_only_here

    @property
    def is_only_here(self) -> bool:
        """Whether a loss is too probable on samples of other times."""
        later = self.later_loss_chance
        return later is not None and later > MAX_LATER_LOSS_CHANCE[self.origin]

    @property
    def is_expected(self) -> bool:
        """Whether a loss is improbable given what was expected, too."""
        return self.expected_loss_chance is not None and self.expected_loss_chance <= MAX_EXPECTED_LOSS_CHANCE

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``text`` is the whole in words, ``decision`` its end."""
        return {**asdict(self), "decision": _decision(self), "text": str(self)}

    def __str__(self) -> str:
        samples = "labels" if self.unit == "points" else "samples"
        held_out = f"on {self.count:,} held-out {samples}"
        where = f"cross-fitted on {self.count:,} {samples}" if self.cross_fitted else held_out
        return f"{_figures(self)} {where} (95 % interval {_interval(self)}): {_decision(self)}"


def judge_pairs(
    base_correct: npt.ArrayLike,
    tuned_correct: npt.ArrayLike,
    *,
    cautious: bool = True,
    groups: npt.ArrayLike | None = None,
    origin: Origin = "random",
    expected: ExpectedGain | None = None,
) -> Acceptance:
    """Decide from whether the base and the tuned model are right on each sample.

    Neither model may have been tuned on the sample, nor chosen with it. For a final model tuned on all
    samples, `tuned_correct` comes from models tuned in the same way on other folds (cross-fitting).

    Args:
        base_correct, tuned_correct: one flag per sample (n,).
        cautious: see :attr:`Acceptance.cautious`.
        groups: the group of each sample (n,), such as the recording; samples of one group are alike, so that
            they count as fewer.
        origin: whether the samples come from one stretch of time, after which gains may differ.
        expected: the gain that was expected of the plan before it was tried.

    Raises:
        DataError: no samples, or arrays of other shapes.

    >>> print(judge_pairs([False] * 20, [True] * 20))
    +100.0 points on 20 held-out labels (95 % interval +63.5 to +100.0): it helps
    >>> judged = judge_pairs([True, True, False], [True, True, True])
    >>> judged.verdict, judged.accepted, round(judged.loss_chance, 2)
    ('cannot tell', False, 0.24)
    """
    base, tuned = _flags(base_correct), _flags(tuned_correct)
    if base.shape != tuned.shape or base.ndim != 1 or not len(base):
        raise DataError(
            f"judging needs one flag per sample for both models, not {base.shape} and {tuned.shape}"
        )
    fixed, regressed, count = int((tuned & ~base).sum()), int((base & ~tuned).sum()), len(base)
    alike = 1.0
    if groups is not None:
        alike = design_effect(tuned.astype(np.float64) - base, _numbers(groups, count))
    independent = fixed / alike, regressed / alike, count / alike
    low, high = paired_interval(*independent)
    later = posterior = None
    if origin in MAX_LATER_LOSS_CHANCE:
        later = loss_chance_later(*independent, MARGIN, SPREADS["stretch"])
    if expected is not None and origin != "unknown":
        posterior = expected.given((fixed - regressed) / count, gain_error(*independent, SPREADS[origin]))
    judged = Acceptance(
        count=count,
        fixed=fixed,
        regressed=regressed,
        gain=(fixed - regressed) / count,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=False,
        loss_chance=loss_chance(*independent, MARGIN),
        cautious=cautious,
        design_effect=alike,
        origin=origin,
        later_loss_chance=later,
        expected_loss_chance=None if posterior is None else posterior.loss_chance(MARGIN),
    )
    safe = judged.is_proven or judged.is_expected or not cautious
    return replace(judged, accepted=fixed > regressed and safe)


def compare(labels: Labels, before: Labels, after: Labels, **how: Any) -> Acceptance:
    """Judge predictions on samples that were used neither for training nor for choosing.

    Args:
        labels, before, after: true labels, and predictions of the base and of the tuned model, all (n,).
        how: see :func:`judge_pairs`.
    """
    return judge_pairs(before == labels, after == labels, **how)


def _flags(correct: npt.ArrayLike) -> Flags:
    return np.asarray(correct).astype(np.bool_)


def _numbers(groups: npt.ArrayLike, count: int) -> Labels:
    """Groups as numbers (n,)."""
    values = np.asarray(groups)
    if values.shape != (count,):
        raise DataError(f"groups must name the group of each of {count} samples, not {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _figures(judged: Acceptance) -> str:
    if judged.unit == "score":
        return f"{judged.gain:+.3g}"
    return f"{100 * judged.gain:+.1f} points"


def _interval(judged: Acceptance) -> str:
    if judged.unit == "score":
        return f"{judged.low:+.3g} to {judged.high:+.3g}"
    return f"{100 * judged.low:+.1f} to {100 * judged.high:+.1f}"


def _decision(judged: Acceptance) -> str:
    """The answer, and for the third what was done and why."""
    if judged.verdict == "harms":
        return "it harms; the base is kept"
    if judged.verdict == "helps" and judged.accepted:
        return "it helps"
    if judged.verdict == "helps":
        return f"it helps on these labels; the base is kept, because {_risk(judged)}"
    if judged.gain <= 0:
        done = "the base is kept, because nothing was gained"
    elif not judged.accepted:
        done = f"the base is kept, because {_risk(judged)}"
    elif judged.cautious:
        done = f"kept, because the expected gain is positive and {_risk(judged)}"
    else:
        done = f"kept, because the expected gain is positive; {_risk(judged)}"
    return f"cannot tell; {done}"


def _risk(judged: Acceptance) -> str:
    """The chance of a loss that decides."""
    matters = "1 point" if judged.unit == "points" else "1 % of the score"
    losing, expected = f"chance of losing more than {matters} is", judged.expected_loss_chance
    if not judged.is_proven and judged.is_expected and expected is not None:
        return f"the {losing} {_chance(expected)}, given what is expected of this arm and these labels"
    if judged.is_only_here and judged.loss_chance <= MAX_LOSS_CHANCE:
        assert judged.later_loss_chance is not None
        later = f"the {losing} {_chance(judged.later_loss_chance)} at other times"
        if judged.origin == "unknown":
            return (
                f"the labels may be from one stretch of time (order none says that they are not), and {later}"
            )
        return f"the labels are from one stretch of time, and {later}"
    return f"the {losing} {_chance(judged.loss_chance)}"


def _chance(share: float) -> str:
    return "below 1 %" if share < 0.01 else f"{100 * share:.0f} %"
