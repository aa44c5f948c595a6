"""Decide whether to keep a tuned model, from outcomes on samples that it was not tuned on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.origin import Origin
from tbft.errors import DataError
from tbft.verification.acceptance import MARGIN, MAX_LATER_LOSS_CHANCE, Acceptance
from tbft.verification.pairs import (
    ORIGIN_SPREADS,
    ExpectedGain,
    design_effect,
    gain_error,
    loss_chance,
    loss_chance_later,
    paired_interval,
)

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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
        later = loss_chance_later(*independent, MARGIN, ORIGIN_SPREADS["stretch"])
    if expected is not None and origin != "unknown":
        posterior = expected.given(
            (fixed - regressed) / count, gain_error(*independent, ORIGIN_SPREADS[origin])
        )
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
    judged = judge_pairs(before == labels, after == labels, **how)
    gains = (after == labels).astype(np.float64) - (before == labels)
    balanced = float(np.mean([gains[labels == label].mean() for label in np.unique(labels)]))
    loses = judged.cautious and balanced < 0
    return replace(judged, balanced_gain=balanced, accepted=judged.accepted and not loses)


def _flags(correct: npt.ArrayLike) -> Flags:
    return np.asarray(correct).astype(np.bool_)


def _numbers(groups: npt.ArrayLike, count: int) -> Labels:
    """Groups as numbers (n,)."""
    values = np.asarray(groups)
    if values.shape != (count,):
        raise DataError(f"groups must name the group of each of {count} samples, not {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
