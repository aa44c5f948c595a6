"""Acceptance: intervals cover what they say, ties are no success, few labels do not mislead."""

from __future__ import annotations

from math import lgamma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbft.errors import DataError
from tbft.verification.acceptance import MAX_LOSS_CHANCE
from tbft.verification.decision import compare, judge_pairs
from tbft.verification.pairs import ExpectedGain, design_effect, loss_chance, paired_interval
from tbft.verification.scores import judge_scores, judge_totals


def judged(fixed, regressed, count, **how):
    """Acceptance of so many fixed and regressed samples."""
    order = np.arange(count)
    return judge_pairs(order >= fixed, (order < fixed) | (order >= fixed + regressed), **how)


def outcomes(count):
    """All numbers of fixed and regressed samples."""
    return [(f, r) for f in range(count + 1) for r in range(count + 1 - f)]


def probabilities(count, gains, losses):
    """The probability of each outcome if a sample is fixed or regresses with these probabilities."""
    logs = [np.log(p) if p > 0 else -1e9 for p in (gains, losses, 1 - gains - losses)]
    terms = np.array([(f, r, count - f - r) for f, r in outcomes(count)])
    factorials = np.array([[lgamma(k + 1) for k in row] for row in terms])
    return np.exp(lgamma(count + 1) - factorials.sum(1) + (terms * logs).sum(1))


@pytest.mark.parametrize("count", [3, 7, 20, 40])
def test_intervals_cover_what_they_say_for_all_rates_of_change(count):
    limits = np.array([paired_interval(f, r, count) for f, r in outcomes(count)])
    covered = []
    for changed in (0, 0.005, 0.02, 0.1, 0.3, 0.6, 0.9, 1):
        for share in (0, 0.1, 0.3, 0.5):
            gain = changed * (1 - 2 * share)
            inside = (limits[:, 0] <= gain + 1e-9) & (limits[:, 1] >= gain - 1e-9)
            covered.append(probabilities(count, changed * (1 - share), changed * share) @ inside)
    assert min(covered) >= 0.945 and np.mean(covered) >= 0.95


@pytest.mark.parametrize("count", [20, 50])
def test_at_most_one_in_twenty_adaptations_is_kept_and_loses_more_than_a_point(count):
    kept = np.array([f > r and loss_chance(f, r, count, 0.01) <= MAX_LOSS_CHANCE for f, r in outcomes(count)])
    for changed in (0.02, 0.05, 0.1, 0.2, 0.5, 0.9):
        for loss in (0.011, 0.02):
            assert probabilities(count, (changed - loss) / 2, (changed + loss) / 2) @ kept <= 0.05


def test_a_rule_without_caution_breaks_that_promise():
    kept = np.array([judged(f, r, 20, cautious=False).accepted for f, r in outcomes(20)])
    assert probabilities(20, 0.1, 0.115) @ kept > 0.2


@given(st.integers(1, 400), st.data())
@settings(max_examples=100, deadline=None)
def test_the_answer_the_interval_and_the_decision_agree(count, data):
    fixed = data.draw(st.integers(0, count))
    regressed = data.draw(st.integers(0, count - fixed))
    result = judged(fixed, regressed, count)
    assert (result.fixed, result.regressed, result.count) == (fixed, regressed, count)
    assert -1 <= result.low <= result.gain <= result.high <= 1 and result.low < result.high
    assert 0 <= result.loss_chance <= 1
    assert (result.verdict == "helps") == (result.low > 0)
    assert result.accepted or result.verdict != "helps"
    assert fixed > regressed or not result.accepted
    assert not result.accepted or judged(fixed, regressed, count, cautious=False).accepted
    mirrored = judged(regressed, fixed, count)
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_the_chance_of_a_loss_is_that_of_the_posterior(fixed, regressed, unchanged):
    count = fixed + regressed + unchanged
    draws = np.random.default_rng(0).dirichlet((fixed + 1, regressed + 1, unchanged + 1), 20_000)
    drawn = (draws[:, 0] - draws[:, 1] < -0.01).mean()
    assert loss_chance(fixed, regressed, count, 0.01) == pytest.approx(drawn, abs=0.015)


@pytest.mark.parametrize("count", [1, 3, 20, 1000])
@pytest.mark.parametrize("cautious", [True, False])
def test_a_tie_is_not_a_success(count, cautious):
    same = judged(0, 0, count, cautious=cautious)
    assert (same.gain, same.verdict, same.accepted) == (0, "cannot tell", False)
    assert same.low < 0 < same.high
    assert str(same).endswith("cannot tell; the base is kept, because nothing was gained")
    assert not judged(count // 2, count // 2, count, cautious=cautious).accepted


def test_three_labels_that_are_all_fixed_cannot_tell():
    three = judged(3, 0, 3)
    assert (three.verdict, three.accepted) == ("cannot tell", False)
    assert judged(3, 0, 3, cautious=False).accepted
    assert "the chance of losing more than 1 point is 6 %" in str(three)


def test_a_base_that_is_always_wrong_or_always_right():
    wrong, right = judged(40, 0, 40), judged(0, 40, 40)
    assert (wrong.verdict, wrong.accepted) == ("helps", True)
    assert (right.verdict, right.accepted) == ("harms", False)
    assert str(right).endswith("it harms; the base is kept")


def test_thousands_of_changed_predictions_are_judged():
    stats = pytest.importorskip("scipy.stats")
    labels = np.zeros(6000, np.int64)
    before, after = labels.copy(), labels.copy()
    before[:2500], after[2000:3500] = 1, 1
    result = compare(labels, before, after)
    assert (result.fixed, result.regressed, result.verdict) == (2000, 1000, "helps")
    exact = stats.binomtest(2000, 3000).proportion_ci(0.95, "exact")
    low, high = ((2 * share - 1) * 3000 / 6000 for share in exact)
    assert (result.low, result.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_alike_samples_of_a_group_count_as_fewer():
    """Ten recordings of ten windows each, of which one was fixed entirely."""
    groups = np.repeat(np.arange(10), 10)
    fixed = groups == 0
    alone, grouped = (judge_pairs(~fixed, fixed | ~fixed, groups=g) for g in (None, groups))
    assert alone.accepted and not grouped.accepted
    assert grouped.low < alone.low and grouped.design_effect > 5
    apart = np.random.default_rng(0).permutation(groups)
    assert design_effect(fixed.astype(float), apart) < 2
    assert judge_pairs(~fixed, fixed | ~fixed, groups=np.zeros(100)).design_effect == 1


@pytest.mark.parametrize("base, tuned", [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_flags_that_do_not_belong_together_are_refused(base, tuned):
    with pytest.raises(DataError, match="one flag per sample"):
        judge_pairs(base, tuned)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_scores_that_all_rise_alike_cannot_tell(count):
    scores = np.arange(float(count))
    result = judge_scores(scores, scores + 1)
    assert result.verdict == "cannot tell" and result.low <= 0 < result.high
    assert not judge_scores(scores, scores).accepted
    assert judge_totals(lambda rows: (0.0, 1.0), count).verdict == "cannot tell"


@pytest.mark.parametrize("count", [5, 10, 30])
def test_intervals_of_scores_cover_what_they_say(count):
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(150):
        before, change = generator.normal(size=(2, count))
        result = judge_scores(before, before + change + 0.3)
        inside.append(result.low <= 0.3 <= result.high)
    assert np.mean(inside) >= 0.93


@pytest.mark.parametrize(
    ("origin", "fixed", "kept"),
    [("stretch", 12, False), ("stretch", 18, True), ("unknown", 6, False), ("unknown", 14, True)],
)
def test_small_gains_on_labels_from_one_stretch_of_time_are_not_trusted(origin, fixed, kept):
    elsewhere, here = (judged(fixed, 0, 100, origin=o) for o in ("random", origin))
    assert elsewhere.accepted
    assert elsewhere.later_loss_chance is None
    assert here.accepted == kept
    assert ("from one stretch of time" in str(here)) != kept
    assert judged(fixed, 0, 100, origin=origin, cautious=False).accepted


def test_what_is_expected_of_an_arm_counts_beside_few_labels():
    """Two of 25 samples fixed prove nothing alone, nor does an expectation that they contradict."""
    likely, doubtful = ExpectedGain(0.05, 0.02), ExpectedGain(0.0, 0.02)
    assert not judged(2, 0, 25).accepted
    assert judged(2, 0, 25, expected=likely).accepted
    assert "given what is expected" in str(judged(2, 0, 25, expected=likely))
    assert not judged(2, 0, 25, expected=doubtful).accepted
    assert not judged(1, 1, 25, expected=likely).accepted  # a tie is not a success
    assert not judged(30, 25, 100, expected=ExpectedGain(-0.1, 0.02)).accepted
    assert not judged(2, 0, 25, expected=likely, origin="unknown").accepted  # the prior is of other data


def test_a_measured_gain_far_from_the_expected_one_outweighs_it():
    near, far = (ExpectedGain(0.0, 0.02).given(gain, 0.05) for gain in (0.05, 0.5))
    assert near.mean < 0.01
    assert far.mean > 0.4


def test_a_gain_of_common_classes_at_the_cost_of_rare_ones_is_not_kept():
    """Twenty labels of a class that is fixed entirely, and two each of three that are lost."""
    labels = np.repeat([0, 1, 2, 3], [20, 2, 2, 2])
    before = np.where(labels == 0, 1, labels)
    judged = compare(labels, before, np.zeros_like(labels))
    assert judged.gain > 0.5 and judged.balanced_gain == -0.5
    assert not judged.accepted and "classes with few labels lose (-50.0 points" in str(judged)
    assert compare(labels, before, np.zeros_like(labels), cautious=False).accepted
