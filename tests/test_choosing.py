"""Heads in closed form, trials on the user's own labels, and what is expected after them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tbft
from tbft.blocks.tensors import fingerprint
from tbft.choosing import planning
from tbft.choosing.choice import choose
from tbft.choosing.cost import Cost, predict_costs
from tbft.choosing.estimates import estimate
from tbft.choosing.options import options_of
from tbft.choosing.trials import Trial, Trials
from tbft.choosing.trying import Trying, run_trials
from tbft.diagnosis.evidence import example_evidence
from tbft.diagnosis.levels import diagnose_evidence
from tbft.errors import BudgetError, PlanError
from tbft.plan import KEEP, Allowance, Budget, Plan, find_recipe
from tbft.tuning.closed_form import LinearHead, Prototypes, solve
from tbft.tuning.execution import tune_samples
from tbft.tuning.options import Tuning
from tbft.verification.comparison import changed_to
from tbft.verification.ridge import RIDGE, regress
from tbft.verification.running import predict
from tbft.verification.task import as_task


def clouds(count=60, classes=3, seed=0, turned=0):
    """Points around a center of each class, and the labels, turned by some classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    x = 4 * np.eye(classes, 6)[labels] + rng.normal(size=(count, 6))
    return tbft.make_samples(x.astype(np.float32), (labels + turned) % classes, tuple("abc"[:classes]))


def network(seed=0):
    torch.manual_seed(seed)
    front = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
    late = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())
    model = nn.Sequential(OrderedDict(front=front, late=late, fc=nn.Linear(16, 3))).eval()
    blocks = tbft.split(model, cuts=["late", "fc"])
    tuned = tune_samples(blocks, Plan("full", find_recipe("fast").given(epochs=20)), clouds(300, seed=9))
    model.load_state_dict({**model.state_dict(), **tuned.changed})
    return blocks


@pytest.fixture(scope="module")
def blocks():
    return network()


def accuracy(blocks, changed, samples):
    with changed_to(blocks.model, changed):
        return float((predict(blocks.model, samples).argmax(1).numpy() == samples.labels).mean())


# --- heads in closed form -----------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["ridge", "prototypes"])
def test_a_head_in_closed_form_learns_reversed_labels(blocks, arm):
    few, many = clouds(30, turned=1), clouds(200, seed=3, turned=1)
    tuned = tune_samples(blocks, Plan(arm, statistics=KEEP), few)
    assert set(tuned.changed) == {"fc.weight", "fc.bias"}
    assert accuracy(blocks, {}, many) < 0.1
    assert accuracy(blocks, tuned.changed, many) > 0.9


def test_both_are_arms_like_the_others(blocks):
    result = tbft.personalize(blocks, clouds(60, turned=1), arm="ridge", statistics="keep", test=0.5, val=0)
    assert result.status == "patched"
    assert result.after.accuracy >= 0.9
    assert len(result.patch.to_bytes()) < 4096
    with result.patch.applied(blocks.model):
        assert accuracy(blocks, {}, clouds(100, seed=5, turned=1)) > 0.9


def test_full_starts_from_a_head_that_was_solved_for(blocks):
    few, many = clouds(30, turned=1), clouds(200, seed=3, turned=1)
    still = find_recipe("fast").replace(epochs=1, min_steps=1, joint_min_steps=1, joint_learning_rate=1e-9)
    for task in (Tuning(), Tuning(task=as_task(None, None, False))):
        changed = tune_samples(blocks, Plan("full", still, statistics=KEEP), few, how=task).changed
        assert accuracy(blocks, changed, many) > 0.9
    other = Tuning(task=as_task(torch.nn.functional.multi_margin_loss, None, False))
    unsolved = tune_samples(blocks, Plan("full", still, statistics=KEEP), few, how=other).changed
    assert accuracy(blocks, unsolved, many) < 0.1


def test_layers_in_front_are_changed_less(blocks):
    def moved(front_rate_factor):
        recipe = find_recipe("fast").replace(front_rate_factor=front_rate_factor, weight_decay=0.0)
        changed = tune_samples(blocks, Plan("full", recipe, statistics=KEEP), clouds(30, turned=1)).changed
        base = blocks.model.state_dict()
        return {key: float((value - base[key]).abs().mean()) for key, value in changed.items()}

    even, lower = moved(1.0), moved(0.1)
    first = next(key for key in even if key.startswith("front"))
    assert lower[first] < 0.5 * even[first]
    assert lower["fc.weight"] > 0.5 * even["fc.weight"]


def test_a_class_without_labels_needs_a_prototype_or_the_base():
    x, labels = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 2
    base, centers = LinearHead(np.eye(3, 4), np.zeros(3)), np.eye(3, 4) * 5
    with pytest.raises(PlanError, match="label some, build a source card"):
        solve("prototypes", x, labels, base)
    source = Prototypes(centers, np.ones(4))
    assert solve("prototypes", x, labels, base, source).head(centers).argmax(1)[2] == 2
    own = np.concatenate([centers, centers])[[0, 1, 3, 4]]  # nothing of the third class
    assert solve("ridge", own, np.array([0, 1, 0, 1]), base, source).head(centers).argmax(1).tolist() == [
        0,
        1,
        2,
    ]


@given(st.integers(1, 3), st.integers(2, 60), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_few_labels_that_the_base_predicts_leave_its_predictions(per_class, width, seed):
    generator = np.random.default_rng(seed)
    base = LinearHead(generator.normal(size=(3, width)), np.zeros(3))
    x = generator.normal(size=(200, width))
    labels = base(x).argmax(1)
    rows = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(3)])
    spread = Prototypes(np.zeros((3, width)), np.ones(width))
    agreed = solve("ridge", x[rows], labels[rows], base, spread).head(x).argmax(1) == labels
    assert agreed.mean() > 0.6


@given(st.integers(3, 30), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_ridge_leaves_out_each_sample_in_its_leave_one_out_logits(count, width, seed):
    """A label that is changed changes nothing in its own logits but their common scale."""
    generator = np.random.default_rng(seed)
    x, labels = generator.normal(size=(count, width)), np.arange(count) % 2 + 1
    base = LinearHead(np.zeros((3, width)), np.zeros(3))  # never right, so that it is held on to alike
    other = labels.copy()
    other[0] = 2
    found = [solve("ridge", x, y, base).left_out[0] for y in (labels, other)]
    first, second = ((f - f.mean()) / (np.linalg.norm(f - f.mean()) + 1e-12) for f in found)
    assert np.allclose(first, second, atol=1e-6)


@given(st.integers(4, 40), st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_leave_one_out_predictions_of_ridge_are_exact(count, width, seed):
    x = np.random.default_rng(seed).normal(size=(count, width))
    labels = np.arange(count) % 2
    left_out = regress(x, labels, 2).left_out
    z = np.concatenate([(x - x.mean(0)) / (x.std(0) + 1e-3), np.ones((count, 1))], 1)
    targets, rest = np.eye(2)[labels], np.arange(count) != 0
    w = np.linalg.solve(z[rest].T @ z[rest] + RIDGE * np.eye(width + 1), z[rest].T @ targets[rest])
    np.testing.assert_allclose(left_out[0], z[0] @ w, atol=1e-8)


# --- strength -----------------------------------------------------------------------------------


def test_strength_is_a_point_on_the_way_to_the_tuned_weights(blocks):
    few = clouds(30, turned=1)
    whole = tune_samples(blocks, Plan("late"), few).changed
    half = tune_samples(blocks, Plan("late", find_recipe("fast").replace(strength=0.5)), few).changed
    base = blocks.model.state_dict()
    for key in half:
        if half[key].is_floating_point():
            torch.testing.assert_close(half[key], (base[key] + whole[key]) / 2)
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(PlanError, match="strength"):
            find_recipe("fast").replace(strength=wrong)


# --- trials -------------------------------------------------------------------------------------


def plans_and_costs(blocks):
    options = options_of(blocks.names, blocks.head, True)
    plans = {o.name: o.plan(find_recipe("fast"), 0, Budget()) for o in options}
    return options, plans, {name: Cost(None, 0.01, 100) for name in plans}


def test_options_are_tried_on_labels_that_they_were_not_tuned_on(blocks):
    _, plans, costs = plans_and_costs(blocks)
    samples, before = clouds(45, turned=1), {k: v.clone() for k, v in blocks.model.state_dict().items()}
    trials = run_trials(blocks, samples, plans, costs, Trying())
    assert trials.fold_count == 3
    assert {"adabn", "ridge", "prototypes", "head", "late"} <= set(trials.options)
    (adabn,) = trials.of("adabn")
    assert adabn.gain < 0.2
    assert max(trial.gain for trial in trials.of("ridge")) > 0.8
    random = tbft.make_samples(samples.inputs, np.random.default_rng(1).integers(0, 3, 45), tuple("abc"))
    for trial in run_trials(blocks, random, plans, costs, Trying()).trials:
        assert trial.correct.mean() < 0.65  # nothing can be learned, and nothing seems to be
    assert all(torch.equal(v, before[k]) for k, v in blocks.model.state_dict().items())


def test_nothing_is_tried_beyond_the_allowance(blocks):
    _, plans, costs = plans_and_costs(blocks)
    assert run_trials(blocks, clouds(45), plans, costs, Trying(cpu_seconds=0.0)).trials == ()
    expensive = {name: replace(cost, cpu_seconds=1e6) for name, cost in costs.items()}
    assert run_trials(blocks, clouds(45), plans, expensive, Trying(cpu_seconds=10)).trials == ()
    one_each = run_trials(blocks, clouds(3), plans, costs, Trying())
    assert one_each.trials == ()  # no label of a class is left to be tuned on
    result = tbft.personalize(blocks, clouds(60, turned=1), budget=Budget(choosing_seconds=0))
    assert result.choice.trial_cpu_seconds < 0.05
    assert "only expected" in result.choice.explanation


def test_a_group_is_not_tried_on_what_was_tuned_on_others_of_its_samples(blocks, monkeypatch):
    _, plans, costs = plans_and_costs(blocks)
    samples, tuned_on = clouds(45, turned=1), []
    wearer = np.array(["", *"abcde"])[np.arange(45) // 8]

    def recorded(blocks, plan, train, *more, **how):
        tuned_on.append(train)
        return tune_samples(blocks, plan, train, *more, **how)

    monkeypatch.setattr("tbft.choosing.trying.tune_samples", recorded)
    samples = replace(samples, attributes={"wearer": wearer})
    trials = run_trials(blocks, samples, {"late": plans["late"]}, costs, Trying())
    assert sorted(trials.trials[0].rows) == list(range(8, 45))  # whose group is known
    sizes = {name: int((wearer == name).sum()) for name in "abcde"}
    for train in tuned_on:
        names = set(train.attributes["wearer"].tolist())
        assert "" in names and len(names) < 6
        assert len(train) == 8 + sum(sizes[name] for name in names - {""})  # all of a group, or nothing


# --- estimates ----------------------------------------------------------------------------------

OPTIONS = options_of(["front", "layer2", "layer3", "rear"], "fc", True)
HALF_WRONG = {"labels__accuracy": 0.5, "labels__p_value": 1e-6, "labels__mapped_accuracy": 0.5}


def tried(option, right, count, base=0.5, strength=1.0):
    def outcomes(share):
        return np.arange(count) < round(share * count)

    return Trial(option, strength, np.arange(count), outcomes(right), outcomes(base))


def estimates_after(trial, known=False, **numbers):
    evidence = example_evidence(**{**HALF_WRONG, **numbers})
    return estimate(diagnose_evidence(evidence), OPTIONS, Trials((trial,), 0.1, 3), known)


def test_a_trial_counts_the_more_the_more_labels_it_has():
    few, many = (estimates_after(tried("layer3", 0.9, n))["layer3"] for n in (10, 500))
    untried = estimate(diagnose_evidence(example_evidence(**HALF_WRONG)), OPTIONS, None, False)["layer3"]
    assert untried.accuracy < few.accuracy < many.accuracy
    assert many.accuracy == pytest.approx(0.9, abs=0.15)
    assert few.spread > many.spread
    assert (few.tried, few.measured) == (10, 0.9)


def test_what_was_measured_overrules_what_was_fitted_elsewhere():
    far = {"shift__distance": 0.7, "shift__z_score": 500.0, "adabn__accuracy": 0.55}
    expected = estimate(diagnose_evidence(example_evidence(**HALF_WRONG, **far)), OPTIONS)
    assert max(expected, key=lambda n: expected[n].accuracy) != "layer3"
    after = estimates_after(tried("layer3", 0.95, 140), known=True, **far)
    assert max(after, key=lambda n: after[n].accuracy) == "layer3"


def test_every_option_is_listed_and_costs_decide_only_within_half_a_point():
    found = estimates_after(tried("layer3", 0.9, 100))
    assert set(found) == {option.name for option in OPTIONS}
    costs = {name: Cost(None, 1.0, 100) for name in found}
    plans = {o.name: o.plan(find_recipe("fast"), 0, Budget()) for o in OPTIONS}
    diagnosis = diagnose_evidence(example_evidence(**HALF_WRONG))
    expensive = {**costs, "layer3": Cost(None, 100.0, 100)}
    choice = choose(diagnosis, found, plans, expensive)
    assert choice.option == "layer3"
    assert choice.plan.recipe.strength == found["layer3"].strength
    thrifty = choose(diagnosis, found, plans, expensive, Budget(worth=1.0))
    assert thrifty.option != "layer3"
    assert set(choice.to_json()["estimates"]["layer3"]) >= {"accuracy", "spread", "prior", "tried"}


def test_wrong_amounts_are_refused():
    for wrong in ({"worth": -1.0}, {"choosing_seconds": float("nan")}):
        with pytest.raises(PlanError, match="give a number of at least 0"):
            Budget(**wrong)


def test_input_drift_that_adabn_does_not_mend_may_be_something_else():
    far = {"shift__distance": 1.8, "shift__z_score": 142.0, "labels__accuracy": 0.3, "labels__p_value": 1e-9,
           "labels__mapped_accuracy": 0.3}  # fmt: skip
    mended, not_mended = (
        diagnose_evidence(example_evidence(**far, adabn__accuracy=a, adabn__mapped_accuracy=a))
        for a in (0.6, 0.32)
    )
    assert mended.levels == not_mended.levels == ("input",)
    assert mended.confidence > 0.9
    assert not_mended.confidence == 0.5
    assert "may show something else" in not_mended.reasons[-1]


def test_what_a_budget_keeps_from_being_done_is_not_called_needless(blocks, monkeypatch):
    def expensive(*given):
        return {name: cost.times(1e6) for name, cost in predict_costs(*given).items()}

    monkeypatch.setattr(planning, "predict_costs", expensive)
    result = tbft.personalize(blocks, clouds(90, turned=1), budget=Budget(cpu_seconds=600))
    assert result.choice is not None
    assert (result.status, result.choice.option) == ("unchanged", "none")
    assert "arm       none, as what is expected to help is beyond the budget" in str(result)
    assert "patch     none: beyond the budget" in str(result)


@pytest.mark.parametrize(("given", "said"), [(1e-9, "takes at least"), (5.0, "predicting costs took")])
def test_a_budget_that_choosing_alone_exceeds_is_refused(blocks, monkeypatch, given, said):
    spent = Allowance.cpu_seconds.fget
    passes = []

    def slow(*given):  # as a large model would be
        passes.append(given)
        monkeypatch.setattr(Allowance, "cpu_seconds", property(lambda clock: spent(clock) + 10))
        return predict_costs(*given)

    monkeypatch.setattr(planning, "predict_costs", slow)
    before = fingerprint(blocks.model.state_dict())
    with pytest.raises(BudgetError, match=f"{said} .* s of processor time.*name an arm"):
        tbft.personalize(blocks, clouds(90, turned=1), budget=Budget(cpu_seconds=given))
    assert len(passes) == (given > 1)  # refused before anything is predicted, if a forward pass tells
    assert fingerprint(blocks.model.state_dict()) == before


def test_a_named_arm_beyond_the_budget_is_refused_with_what_it_needs(blocks):
    with pytest.raises(BudgetError, match=r"allow at least [0-9.]+ s of processor time in all"):
        tbft.personalize(blocks, clouds(90, turned=1), arm="full", budget=Budget(cpu_seconds=1e-6))


def test_a_run_that_took_more_than_its_budget_says_so(blocks):
    result = tbft.personalize(blocks, clouds(90, turned=1), arm="ridge", budget=Budget(cpu_seconds=600))
    assert not any("budget" in note for note in result.notes)
    over = replace(result, measurement=replace(result.measurement, cpu_seconds=700.0))
    said = "the budget of 600.0 s of processor time was exceeded: the run took 700.0 s of processor time"
    assert any(note.startswith(said) for note in over.to_json()["notes"])
    assert said in str(over)


def test_what_does_not_suit_the_level_is_expected_to_do_what_its_statistics_do():
    moved = {"shift__distance": 0.7, "shift__z_score": 500.0}
    wrong = {"labels__accuracy": 0.3, "labels__p_value": 0.0, "labels__mapped_accuracy": 0.3}
    mended = {"adabn__accuracy": 0.55, "adabn__mapped_accuracy": 0.55}
    diagnosis = diagnose_evidence(example_evidence(**moved, **wrong, **mended))
    assert diagnosis.levels == ("input",)
    found = estimate(diagnosis, OPTIONS)
    assert found["adabn"].accuracy > found["none"].accuracy + 0.1
    assert found["full"].accuracy == found["layer3"].accuracy == found["adabn"].accuracy
    assert found["head"].accuracy == found["none"].accuracy
    assert (found["full"].strength, found["full"].tried) == (1.0, 0)


def test_a_trial_that_the_prior_cannot_explain_outweighs_it():
    expected = estimate(diagnose_evidence(example_evidence(**HALF_WRONG)), OPTIONS, None, False)["layer3"]
    far = estimates_after(tried("layer3", 0.95, 80))["layer3"]
    assert far.strength == 1.0
    assert far.accuracy > expected.prior + 0.9 * (0.95 - expected.prior)


def test_less_is_expected_where_nothing_drifted_or_labels_are_from_one_stretch():
    drifted = diagnose_evidence(example_evidence(**HALF_WRONG))
    same = diagnose_evidence(example_evidence())
    assert drifted.levels and not same.levels
    found = estimate(drifted, OPTIONS, None, False), estimate(drifted, OPTIONS, None, False, "stretch")
    gains = [f["layer3"].accuracy - f["none"].accuracy for f in found]
    assert gains[0] > gains[1]
    undrifted = estimate(same, OPTIONS, None, False)
    assert undrifted["layer3"].accuracy <= undrifted["none"].accuracy + 0.02


def test_what_was_tried_in_vain_lowers_what_is_expected_of_the_others():
    hopeless = estimates_after(tried("adabn+head", 0.5, 200))
    untried = estimate(diagnose_evidence(example_evidence(**HALF_WRONG)), OPTIONS, None, False)
    expected, left = untried["layer3"].accuracy - 0.5, hopeless["layer3"].accuracy - 0.5
    assert 0 <= left < 0.9 * expected
