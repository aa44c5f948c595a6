"""Decide whether tuning helped, and whether to keep it: the gain on labeled samples that it did not see.

The answer is one of three: it helps, it harms, or the labels cannot tell. What is kept in the third case
follows a rule, see ``docs/acceptance.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.errors import DataError
from tbft.verification.pairs import design_effect, loss_chance, loss_chance_later, paired_interval

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: A loss that matters: of accuracy, or of a score relative to the base's.
MARGIN = 0.01
#: Maximum chance of such a loss with which the cautious rule keeps the tuned model. It is below the promised
#: 5 % because outcomes are whole numbers, and because the models of a cross-fit differ from the final one.
MAX_LOSS_CHANCE = 0.04
#: Where few labels come from one stretch of time: standard deviation of the gain on later samples around that
#: on these (as in the trials), and maximum chance of a loss that matters with it. The chance is the highest
#: with which nobody lost more than a point in two sets of people (phone and watch, WISDM).
LATER_SPREAD, MAX_LATER_LOSS_CHANCE = 0.15, 0.25


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
        cautious: the rule. The tuned model is kept if the expected gain is positive and, if cautious,
            `loss_chance` is at most 4 % and `later_loss_chance` at most 25 %.
        unit: ``points`` of accuracy, or ``score``.
        cross_fitted: whether each sample was judged by a model tuned on other folds, instead of the final
            model by samples held out.
        design_effect: how many samples of the same group count as one, at least 1.
        later_loss_chance: the same as `loss_chance` for later samples, where these come from one stretch of
            time; None: they do not.
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
    later_loss_chance: float | None = None

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
    cross_fitted: bool = False,
    one_stretch: bool = False,
) -> Acceptance:
    """Decide from whether the base and the tuned model are right on each sample.

    Neither model may have been tuned on the sample, nor chosen with it. For a final model tuned on all
    samples, `tuned_correct` comes from models tuned in the same way on other folds (cross-fitting).

    Args:
        base_correct, tuned_correct: one flag per sample (n,).
        cautious: see :attr:`Acceptance.cautious`.
        groups: the group of each sample (n,), such as the recording; samples of one group are alike, so that
            they count as fewer.
        cross_fitted: see :attr:`Acceptance.cross_fitted`.
        one_stretch: whether the samples come from one stretch of time, after which gains may differ.

    Raises:
        DataError: no samples, or arrays of other shapes.

    >>> print(judge_pairs([False] * 20, [True] * 20))
    +100.0 points on 20 held-out labels (95 % interval +63.5 to +100.0): it helps
    >>> judged = judge_pairs([True, True, False], [True, True, True], cross_fitted=True)
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
    chance = loss_chance(*independent, MARGIN)
    later = loss_chance_later(*independent, MARGIN, LATER_SPREAD) if one_stretch else None
    safe = chance <= MAX_LOSS_CHANCE and (later or 0.0) <= MAX_LATER_LOSS_CHANCE
    return Acceptance(
        count=count,
        fixed=fixed,
        regressed=regressed,
        gain=(fixed - regressed) / count,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=fixed > regressed and (safe or not cautious),
        loss_chance=chance,
        cautious=cautious,
        cross_fitted=cross_fitted,
        design_effect=alike,
        later_loss_chance=later,
    )


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
    matters = "1 point" if judged.unit == "points" else "1 % of the score"
    losing, later = f"chance of losing more than {matters} is", judged.later_loss_chance
    chance = f"the {losing} {_chance(judged.loss_chance)}"
    if later is not None and later > MAX_LATER_LOSS_CHANCE and judged.loss_chance <= MAX_LOSS_CHANCE:
        chance = f"the labels are from one stretch of time, and the {losing} {_chance(later)} at other times"
    if judged.verdict == "helps":
        return f"it helps on these labels; the base is kept, because {chance}"
    if judged.gain <= 0:
        done = "the base is kept, because nothing was gained"
    elif not judged.accepted:
        done = f"the base is kept, because {chance}"
    elif judged.cautious:
        done = f"kept, because the expected gain is positive and {chance}"
    else:
        done = f"kept, because the expected gain is positive; {chance}"
    return f"cannot tell; {done}"


def _chance(share: float) -> str:
    return "below 1 %" if share < 0.01 else f"{100 * share:.0f} %"
