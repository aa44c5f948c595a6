"""Whether tuning helped, and whether to keep it: the gain on labeled samples that it did not see.

The answer is one of three: it helps, it harms, or the labels cannot tell. What is kept in the third case
follows a rule, see ``docs/acceptance.md``; :mod:`tbft.verification.decision` applies it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tbft.data.origin import Origin

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
        origin: how the samples came about, see :func:`tbft.data.origin.origin_of`; where some were held out
            to decide, ``random``.
        later_loss_chance: the same as `loss_chance` for later samples, where these come, or may come, from
            one stretch of time; None: they do not.
        expected_loss_chance: the same as `loss_chance` with what was expected of the plan as a prior; None:
            nothing was expected.
        balanced_gain: mean gain of the classes, for class labels; the cautious rule keeps no tuned model
            where it is negative.
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
    balanced_gain: float | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the labels alone say that a loss is improbable."""
        return self.is_safe_here and not self.is_only_here

    @property
    def is_safe_here(self) -> bool:
        """Whether a loss is improbable on samples like these."""
        return self.loss_chance <= MAX_LOSS_CHANCE

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
    """What decides: classes that lose, or the chance of a loss."""
    balanced = judged.balanced_gain or 0.0
    if not judged.accepted and judged.cautious and balanced < 0:
        return f"classes with few labels lose ({100 * balanced:+.1f} points in the mean of the classes)"
    matters = "1 point" if judged.unit == "points" else "1 % of the score"
    losing, expected = f"chance of losing more than {matters} is", judged.expected_loss_chance
    if not judged.is_proven and judged.is_expected and expected is not None:
        return f"the {losing} {_chance(expected)}, given what is expected of this arm and these labels"
    if judged.is_only_here and judged.is_safe_here:
        assert judged.later_loss_chance is not None
        later = f"the {losing} {_chance(judged.later_loss_chance)} at other times"
        if judged.origin == "unknown":
            return (
                f"the labels may be from one stretch of time (order none says that they are not), and {later}"
            )
        return f"the labels are from one stretch of time, and {later}"
    return f"the {losing} {_chance(judged.loss_chance)}"


def _chance(share: float) -> str:
    """In percent; with a decimal near the limits of 4 and 5 %.

    >>> _chance(0.002), _chance(0.043), _chance(0.22)
    ('below 1 %', '4.3 %', '22 %')
    """
    if share < 0.01:
        return "below 1 %"
    return f"{100 * share:.1f} %" if 0.035 <= share < 0.055 else f"{100 * share:.0f} %"
