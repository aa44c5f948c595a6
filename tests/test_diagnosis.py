"""Card, evidence, diagnosis, choice and acceptance: right on drifts that are known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import striped
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tbft
from tbft.blocks import split
from tbft.blocks.state import evaluating
from tbft.blocks.tensors import fingerprint
from tbft.choosing import planning
from tbft.choosing.choice import beyond
from tbft.choosing.choice import choose as choose_option
from tbft.choosing.cost import Cost, predict_costs
from tbft.choosing.estimates import estimate
from tbft.choosing.expectations import expectations
from tbft.choosing.options import options_of
from tbft.choosing.planning import Setting, choose_plan
from tbft.data import make_samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.divergence import channel_moments
from tbft.diagnosis.evidence import example_evidence
from tbft.diagnosis.gathering import gather
from tbft.diagnosis.levels import diagnose_evidence
from tbft.diagnosis.observation import observe
from tbft.diagnosis.predictions import mapped_accuracy, probe_accuracy
from tbft.errors import BudgetError, CardError, DataError, PlanError
from tbft.front_door import build_card, diagnose, tune
from tbft.metering.tensor_bytes import TensorBytes
from tbft.models.digits import DigitsNet
from tbft.pipeline import personalize
from tbft.plan import KEEP, Allowance, Budget, Plan, find_recipe
from tbft.verification.binomial import binomial_cdf
from tbft.verification.running import predict

FAST = find_recipe("fast").replace(precision="float32")


@pytest.fixture(scope="module")
def trained():
    """A digits model that knows the stripes, with the card of held-out ones."""
    torch.manual_seed(0)
    model = DigitsNet(3)
    blocks = split(model)
    tuned = tune(blocks, Plan("full", FAST, statistics=None), striped(300, seed=1))
    with torch.no_grad():
        for key, value in tuned.changed.items():
            model.state_dict()[key].copy_(value)
    return blocks, build_card(blocks, striped(300, seed=2))


def drifted(count: int = 60, seed: int = 3):
    """Stripes seen by a sensor that saturates."""
    samples = striped(count, seed=seed)
    return replace(samples, inputs=np.clip(samples.inputs.astype(int) * 2 + 60, 0, 255).astype(np.uint8))


def relabeled(count: int = 60, seed: int = 3):
    samples = striped(count, seed=seed)
    return replace(samples, labels=(samples.labels + 1) % 3)


# --- observing and the card ---------------------------------------------------------------------


def test_what_is_observed_is_what_the_model_computes(trained):
    blocks, _ = trained
    samples = striped(20)
    before = fingerprint(blocks.model.state_dict())
    seen = observe(blocks, samples, "float32")
    x, _ = samples.batch(slice(0, 20))
    with evaluating(blocks.model):
        logits = blocks.model(x)
        first = blocks.model.conv1[0][0](x) if isinstance(blocks.model.conv1[0], nn.Sequential) else None
    np.testing.assert_allclose(seen.logits, logits.numpy(), atol=1e-5)
    place = next(iter(seen.layers))
    mean, variance = channel_moments(seen, place)
    if first is not None:
        rows = first[:, :, ::2]
        np.testing.assert_allclose(mean, rows.mean((0, 2, 3)), atol=1e-4)
        np.testing.assert_allclose(variance, rows.var((0, 2, 3), unbiased=False), rtol=1e-3)
    assert seen.features.shape == (20, blocks.model.fc.in_features)
    assert len(seen.layers) == 4
    assert fingerprint(blocks.model.state_dict()) == before


def test_adabn_and_prediction_are_one_pass():
    torch.manual_seed(0)
    layers = [("a", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU())),
              ("b", nn.Linear(8, 3))]  # fmt: skip
    blocks, samples = split(layers), striped(40)
    x, _ = samples.batch(slice(0, 40))
    with torch.no_grad():
        blocks.model.train()
        whole = blocks.model(x)  # by the statistics of the batch
    before = fingerprint(blocks.model.state_dict())
    adapted = observe(blocks, samples, "float32", source_samples=0)
    np.testing.assert_allclose(adapted.logits, whole.numpy(), atol=1e-4)
    at_rest, by_source = observe(blocks, samples, "float32"), observe(blocks, samples, "float32", 64, 10**9)
    np.testing.assert_allclose(by_source.logits, at_rest.logits, atol=1e-4)
    assert np.abs(adapted.logits - at_rest.logits).max() > 0.1
    in_parts = observe(blocks, samples, "float32", 10, source_samples=0)
    np.testing.assert_allclose(in_parts.logits[30:], whole[30:].numpy(), atol=1e-4)  # all were seen by then
    assert fingerprint(blocks.model.state_dict()) == before


def test_models_without_batch_norm_are_observed_between_blocks():
    model = [("a", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())), ("b", nn.Linear(8, 3))]
    blocks = split(model)
    seen = observe(blocks, striped(30))
    assert list(seen.layers) == ["b"]
    assert seen.features.shape == (30, 8)
    with pytest.raises(DataError, match="build a card"):
        diagnose(blocks, striped(30))
    source = striped(300, seed=2)
    predicted = blocks.model(source.batch(slice(None))[0]).argmax(1).numpy()
    card = build_card(blocks, replace(source, labels=predicted))
    e = gather(blocks, striped(60), card)
    assert e.adabn is None
    names = [option.name for option in options_of(blocks.names, blocks.head, batch_norm=False)]
    assert names == ["none", "a", "head", "ridge", "prototypes", "a+head", "full"]


def test_a_card_comes_back_as_it_was_and_belongs_to_one_base(trained, tmp_path):
    blocks, card = trained
    card.save(tmp_path / "c.safetensors")
    again = SourceCard.load(tmp_path / "c.safetensors")
    assert {**vars(again), "tensors": None} == {**vars(card), "tensors": None}
    assert fingerprint(again.tensors) == fingerprint(card.tensors)
    assert again.layers == card.layers
    assert len(card.to_bytes()) < 96 * 1024
    with pytest.raises(CardError, match="another base"):
        gather(split(DigitsNet(3)), striped(60), card)
    blob = bytearray((tmp_path / "c.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "d.safetensors").write_bytes(blob)
    with pytest.raises(CardError, match="checksum"):
        SourceCard.load(tmp_path / "d.safetensors")
    with pytest.raises(CardError, match="no such card"):
        SourceCard.load(tmp_path / "e.safetensors")
    with pytest.raises(DataError, match="too few for a card"):
        build_card(blocks, striped(60))


# --- evidence -------------------------------------------------------------------------------------


def test_other_labels_leave_every_statistic_exactly_where_it_was(trained):
    blocks, card = trained
    clean, other = gather(blocks, striped(60, seed=3), card), gather(blocks, relabeled(), card)
    assert (clean.shift, clean.confidence) == (other.shift, other.confidence)
    assert clean.adabn.confidence == other.adabn.confidence
    assert other.labels.accuracy < 0.2 < 0.9 < other.labels.mapped_accuracy


def test_a_model_of_one_layer_without_batchnorm_gets_no_card_and_is_told_why():
    layer = torch.nn.Linear(3, 3)
    torch.nn.init.eye_(layer.weight)
    with pytest.raises(DataError, match=r"the model has neither: cut it in two"):
        tbft.build_card(layer, (torch.eye(3).repeat(40, 1), np.arange(120) % 3))


def test_clean_samples_lie_as_near_as_the_card_says(trained):
    blocks, card = trained
    scores = [gather(blocks, striped(60, seed=seed), card).shift.z_score for seed in range(10, 20)]
    assert np.median(scores) < 3
    assert gather(blocks, drifted(), card).shift.z_score > 20


def test_gathering_leaves_the_model_alone_and_is_repeatable(trained):
    blocks, card = trained
    before = fingerprint(blocks.model.state_dict())
    assert gather(blocks, drifted(), card) == gather(blocks, drifted(), card)
    assert fingerprint(blocks.model.state_dict()) == before
    assert all(p.grad is None for p in blocks.model.parameters())
    with pytest.raises(DataError, match="no samples to diagnose"):
        gather(blocks, striped(6).subset(slice(0, 0)), card)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("has_card", [True, False])
def test_fewer_than_eight_samples_are_described_but_not_diagnosed(trained, count, has_card):
    blocks, card = trained
    diagnosis = tbft.diagnose(blocks, drifted().subset(slice(0, count)), card=card if has_card else None)
    assert (diagnosis.name, diagnosis.levels) == ("cannot tell", ())
    assert any(f"{count} samples are too few" in reason for reason in diagnosis.reasons)
    assert diagnosis.evidence.labels.accuracy >= 0 and diagnosis.advice


@given(st.permutations(range(5)), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_consistent_labels_are_mapped_whatever_they_are(order, seed):
    called = np.random.default_rng(seed).permutation(np.arange(50) % 5)
    assert mapped_accuracy(np.array(order)[called], called, 5) == 1.0
    shuffled = np.random.default_rng(seed).integers(0, 5, 50)
    assert mapped_accuracy(shuffled, called, 5) < 0.6


def test_the_probe_leaves_out_the_sample_it_judges():
    """Against the slow way: a ridge regression without each sample in turn."""
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 4
    features = generator.normal(size=(40, 6)).astype(np.float32)
    features[:, :4] += 1.5 * np.eye(4)[labels]
    x = (features - features.mean(0)) / (features.std(0) + 1e-3)
    x = np.concatenate([x, np.ones((40, 1))], axis=1)
    right = 0
    for i in range(40):
        rest = np.arange(40) != i
        weights = np.linalg.solve(x[rest].T @ x[rest] + 30 * np.eye(7), x[rest].T @ np.eye(4)[labels[rest]])
        right += (x[i] @ weights).argmax() == labels[i]
    assert probe_accuracy(features, labels, 4) == pytest.approx(right / 40)
    wide = np.concatenate([features, np.zeros((40, 60), np.float32)], axis=1)
    assert probe_accuracy(wide, labels, 4) == pytest.approx(right / 40)


def test_the_binomial_tail_is_exact():
    assert binomial_cdf(10, 10, 0.5) == pytest.approx(1)
    assert binomial_cdf(0, 10, 0.5) == pytest.approx(0.5**10)


@given(st.integers(0, 5000), st.integers(1, 5000), st.floats(0.001, 0.999))
@settings(max_examples=60, deadline=None)
def test_the_binomial_tail_is_that_of_scipy_for_any_count(successes, count, rate):
    stats = pytest.importorskip("scipy.stats")
    successes = min(successes, count)
    assert binomial_cdf(successes, count, rate) == pytest.approx(
        stats.binom.cdf(successes, count, rate), abs=1e-9
    )


# --- diagnosis --------------------------------------------------------------------------------------


FAR = {"shift__distance": 0.3, "shift__z_score": 90.0}
LOW = {"labels__accuracy": 0.5, "labels__p_value": 1e-9, "labels__mapped_accuracy": 0.45}
UNLABELED = {
    "labels": None,
    "adabn__accuracy": None,
    "adabn__mapped_accuracy": None,
    "labels_per_class": None,
}


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ({}, "none"),
        ({**FAR, **LOW}, "input"),
        (FAR, "input"),
        ({**FAR, "adabn__accuracy": 0.1, "adabn__mapped_accuracy": 0.6}, "input+output"),
        ({"labels__accuracy": 0.05, "labels__p_value": 0.0, "labels__mapped_accuracy": 0.78}, "output"),
        (LOW, "output"),
        ({**LOW, "shift__distance": 0.008, "shift__z_score": 8.0}, "feature"),
        ({**LOW, "confidence__lost": 3.0}, "feature"),
        ({"shift__distance": 0.008, "shift__z_score": 8.0}, "none"),
        ({"samples": 12, "labels__accuracy": 0.7, "labels__p_value": 0.2}, "cannot tell"),
        (UNLABELED, "cannot tell"),
    ],
)  # fmt: skip
def test_the_level_follows_from_what_each_level_leaves_alone(numbers, name):
    diagnosis = diagnose_evidence(example_evidence(**numbers))
    assert diagnosis.name == name
    assert 0 <= diagnosis.confidence <= 1
    assert (diagnosis.advice is not None) == (name == "cannot tell")
    assert diagnosis.to_json()["name"] == name


def test_real_forward_passes_are_diagnosed(trained):
    blocks, card = trained
    assert diagnose(blocks, striped(90, seed=5), card=card).name == "none"
    assert diagnose(blocks, drifted(90), card=card).levels == ("input",)
    assert diagnose(blocks, relabeled(90), card=card).levels == ("output",)
    unlabeled = diagnose(blocks, relabeled(90), card=card, labeled=False)
    assert unlabeled.name == "cannot tell"
    assert "label some samples" in unlabeled.advice
    weaker = diagnose(blocks, relabeled(90))
    assert not weaker.evidence.has_card
    assert "output" in weaker.levels
    assert "source card" in weaker.advice


# --- choosing ---------------------------------------------------------------------------------------

OPTIONS = options_of(["front", "layer2", "layer3", "rear"], "fc", batch_norm=True)
COSTS = {
    "none": Cost(0, 0.0, 0), "adabn": Cost(1e9, 0.1, 100), "front": Cost(1e11, 6.0, 800, 10 << 20),
    "layer2": Cost(1e11, 5.0, 800, 5 << 20), "layer3": Cost(1e11, 3.0, 800, 2 << 20),
    "head": Cost(1e9, 0.4, 800, 1 << 20), "adabn+head": Cost(1e9, 0.6, 800, 1 << 20),
    "front+head": Cost(1e11, 6.1, 800, 10 << 20), "full": Cost(1e11, 9.0, 9000, 20 << 20),
}  # fmt: skip
NOISE = {"shift__distance": 0.7, "shift__z_score": 500.0, "labels__accuracy": 0.3, "labels__p_value": 0.0,
         "adabn__accuracy": 0.55,
         "labels__mapped_accuracy": 0.3, "adabn__mapped_accuracy": 0.55}  # fmt: skip
REVERSED = {
    "labels__accuracy": 0.05,
    "labels__p_value": 0.0,
    "labels__mapped_accuracy": 0.78,
    "adabn__accuracy": 0.05,
}


def choose(diagnosis, options, costs, recipe, budget=None):
    plans = {option.name: option.plan(recipe, 0, budget or Budget()) for option in options}
    return choose_option(diagnosis, estimate(diagnosis, options), plans, costs, budget)


def chosen(budget=None, labels=100.0, **numbers):
    diagnosis = diagnose_evidence(example_evidence(labels_per_class=labels, **numbers))
    return choose(diagnosis, OPTIONS, COSTS, FAST, budget)


def test_each_level_gets_its_arm():
    assert chosen(**NOISE).plan.arm.name in ("front", "front+fc")
    few, many = (chosen(labels=labels, **NOISE).expected_accuracies for labels in (2.0, 100.0))
    assert few["front"] < many["front"]
    reversal = chosen(**REVERSED)
    assert (reversal.plan.arm.name, reversal.plan.statistics) == ("fc", KEEP)
    assert chosen().option == "none"
    for mapped in (0.4, 0.51):  # wrong at random: another reading gains nothing beyond chance
        assert chosen(labels=10.0, **{**LOW, "labels__mapped_accuracy": mapped}).option == "none"


def test_weak_drift_gets_no_more_than_what_costs_little():
    weak = {"shift__distance": 0.005, "shift__z_score": 20.0}
    assert diagnose_evidence(example_evidence(**weak)).verdict == "none"
    many, few, at_rest = chosen(**weak), chosen(labels=10.0, **weak), chosen()
    assert (many.option, few.option, at_rest.option) == ("head", "none", "none")
    assert many.plan.level == "none"
    assert set(many.expected_accuracies) == set(COSTS)


def test_of_equally_cheap_options_the_better_is_taken():
    diagnosis = diagnose_evidence(example_evidence(labels_per_class=100.0, **NOISE))
    for names in (("front", "front+head"), ("front+head", "front")):
        costs = {name: Cost(1e11, 6.0, 800) for name in names}
        choice = choose(diagnosis, OPTIONS, costs, FAST)
        assert set(choice.contenders) == set(names)
        assert choice.option == max(names, key=lambda name: choice.expected_accuracies[name])
    dear = {"front": Cost(1e11, 6.0, 800), "front+head": Cost(1e11, 7.0, 800)}
    assert choose(diagnosis, OPTIONS, dear, FAST).option == "front"


def test_without_labels_adabn_is_all_that_can_be_done():
    choice = choose(diagnose_evidence(example_evidence(**FAR, **UNLABELED)), OPTIONS, COSTS, FAST)
    assert choice.option == "adabn"
    assert set(choice.expected_accuracies) == {"none", "adabn"}
    assert max(choice.expected_accuracies.values()) <= 0.8
    near = choose(
        diagnose_evidence(example_evidence(shift__distance=0.02, shift__z_score=9.0, **UNLABELED)),
        OPTIONS,
        COSTS,
        FAST,
    )
    assert near.option == "none"


def test_a_mixture_that_was_never_measured_is_still_chosen_for():
    diagnosis = replace(diagnose_evidence(example_evidence(**REVERSED)), levels=("feature", "output"))
    assert choose(diagnosis, OPTIONS, COSTS, FAST).option == "head"


def test_labels_that_no_drift_of_inputs_explains_are_drift_of_the_output():
    few = {**FAR, "samples": 20, "labels__accuracy": 0.05, "labels__mapped_accuracy": 0.1,
           "labels__p_value": 1e-9,
           "adabn__samples": 20, "adabn__accuracy": 0.0, "adabn__mapped_accuracy": 0.1}  # fmt: skip
    assert diagnose_evidence(example_evidence(**few)).levels == ("input", "output")


def test_expectations_are_finite_and_within_reason():
    rows = expectations()
    assert {"input", "output", "feature", "input+output"} <= set(rows)
    for row in rows.values():
        for table in row.values():
            assert all(len(c) == 4 and np.isfinite(c).all() and np.abs(c).max() < 3 for c in table.values())


def test_a_choice_explains_itself():
    choice = chosen(**NOISE)
    for word in ("input level", "is expected to reach", "next are", "processor time"):
        assert word in choice.explanation
    assert choice.to_json()["option"] == choice.option


@given(
    seconds=st.none() | st.floats(0.01, 20),
    mebibytes=st.none() | st.integers(1, 30),
    labels=st.floats(1, 500),
    level=st.sampled_from([{}, NOISE, REVERSED]),
)
@settings(max_examples=60, deadline=None)
def test_no_choice_exceeds_its_budget(seconds, mebibytes, labels, level):
    budget = Budget(cpu_seconds=seconds, peak_bytes=None if mebibytes is None else mebibytes << 20)
    choice = chosen(budget, labels, **level)
    assert beyond(COSTS[choice.option], budget) is None
    assert choice.option not in choice.excluded
    assert choice.plan.budget == budget
    best = max(v for name, v in choice.expected_accuracies.items() if name not in choice.excluded)
    assert choice.expected_accuracies[choice.option] >= best - 0.0051


def test_an_energy_budget_needs_an_energy_estimate():
    with pytest.raises(PlanError, match="needs an energy estimate"):
        chosen(Budget(joules=5.0), **NOISE)
    for wrong in ({"cpu_seconds": 0.0}, {"joules": -1.0}):
        with pytest.raises(PlanError, match="give a positive number"):
            Budget(**wrong)


# --- the steps in a row ----------------------------------------------------------------------------------


def parts_of(train, seed=9):
    from tbft.data.splitting import Parts

    held = {"val": striped(60, seed=seed), "test": striped(60, seed=seed + 1)}
    return Parts(train, held["val"], held["test"], 0, None)


def test_clean_samples_are_left_alone_and_other_labels_get_a_new_head(trained):
    blocks, card = trained
    before = fingerprint(blocks.model.state_dict())
    clean = personalize(blocks, parts_of(striped(90, seed=5)), recipe=FAST, card=card)
    assert (clean.plan.arm.name, len(clean.patch.tensors), clean.acceptance) == ("none", 0, None)
    assert clean.choice.diagnosis.name == "none"
    parts = replace(parts_of(relabeled(90)), val=relabeled(60, 9), test=relabeled(60, 10))
    mended = personalize(blocks, parts, recipe=FAST, card=card)
    assert mended.plan.arm.name in (blocks.head, "ridge")
    assert mended.acceptance.verdict == "helps"
    assert mended.after.accuracy > mended.before.accuracy + 0.5
    # Whether its features are those after AdaBN does not matter where the inputs did not change.
    assert all(
        key.startswith("fc.") or "running" in key or "num_batches" in key for key in mended.patch.tensors
    )
    assert fingerprint(blocks.model.state_dict()) == before


def test_what_does_not_help_is_undone(trained):
    blocks, _ = trained
    parts = replace(parts_of(relabeled(90)), val=striped(60, seed=9))  # the val part tells another story
    result = personalize(blocks, parts, plan=Plan("fc", FAST, statistics=1.0))
    assert not result.acceptance.accepted
    assert result.acceptance.verdict == "harms"
    assert len(result.patch.tensors) == 0
    assert result.after == result.before


def test_a_budget_of_time_is_kept_in_prediction_and_in_fact(trained, monkeypatch):
    blocks, card = trained
    many = drifted(3000)

    def expensive(*given):
        return {name: cost.times(1e6) for name, cost in predict_costs(*given).items()}

    with monkeypatch.context() as patched:
        patched.setattr(planning, "predict_costs", expensive)
        choice = choose_plan(blocks, many, Setting(FAST, card), Allowance(Budget(cpu_seconds=600)))
    assert choice.excluded
    assert beyond(choice.costs[choice.option], Budget(cpu_seconds=600)) is None
    plan = Plan("front", FAST, statistics=None, budget=Budget(cpu_seconds=0.02))
    with pytest.raises(PlanError, match="is predicted to take"):
        personalize(blocks, parts_of(many), plan=plan)
    tuned = tune(blocks, plan, many)  # asked for all the same, it stops
    assert tuned.stopped == "budget"
    assert not tuned.changed


def test_samples_are_looked_at_without_their_number_being_divisible(trained):
    blocks, card = trained
    odd = make_samples(striped(61).inputs, striped(61).labels)
    assert gather(blocks, odd, card).samples == 61


def test_a_budget_of_memory_holds_for_all_that_an_adaptation_does(trained):
    blocks, card = trained
    allowed = 4 << 20
    # What each step may take is kept beside what evaluating the test part takes before and after.
    with TensorBytes() as counted:
        choice = choose_plan(blocks, drifted(200), Setting(FAST, card), Allowance(Budget(peak_bytes=allowed)))
        tune(blocks, choice.plan, drifted(200))
    assert counted.peak <= allowed


def test_a_budget_of_memory_for_no_option_is_refused_with_what_the_cheapest_needs(trained):
    blocks, card = trained
    with pytest.raises(
        BudgetError, match=r"of 20,000 bytes \(0\.019 MiB\) of memory is too small"
    ) as refused:
        personalize(blocks, drifted(60), card=card, budget=Budget(peak_bytes=20_000))
    needed = int(re.search(r"takes at least ([0-9,]+) bytes", str(refused.value))[1].replace(",", ""))
    choice = choose_plan(blocks, drifted(60), Setting(FAST, card), Allowance(Budget(peak_bytes=needed)))
    assert choice.option != "none"
    # Where nothing drifted there is nothing to refuse.
    kept = choose_plan(blocks, striped(60), Setting(FAST, card), Allowance(Budget(peak_bytes=20_000)))
    assert kept.option == "none"


class Dividing(nn.Module):
    """Divides by the brightest pixel, which a black picture does not have."""

    cuts = ("rear",)

    def __init__(self):
        super().__init__()
        self.front, self.rear = nn.BatchNorm2d(1), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        return self.rear(self.front(x / x.amax((1, 2, 3), keepdim=True)))


def test_outputs_that_are_not_finite_are_named_by_their_sample(stripes):
    black = stripes.inputs.copy()
    black[7] = 0
    dark, blocks = replace(stripes, inputs=black), split(Dividing())
    for use in (observe, lambda blocks, samples: predict(blocks.model, samples)):
        with pytest.raises(
            DataError, match=r"NaN or infinity for 1 of 60 samples, the first is sample 7: check"
        ):
            use(blocks, dark)
