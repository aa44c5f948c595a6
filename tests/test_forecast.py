"""How many labels? The forecast rises where labels help, and is wide where they are few."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import striped
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tbft
from tbft.choosing.label_forecast import (
    MAX_LABELS,
    Seen,
    forecast_labels,
    rows_to_use,
    spread_evenly,
)
from tbft.choosing.learning_curve import Point, head_problem, learning_curve
from tbft.choosing.power_law import fit_law
from tbft.cli import main
from tbft.errors import DataError
from tbft.verification.running import predict

NAMES = ("a", "b", "c", "d")


def drawn(count: int, seed: int = 0, apart: float = 1.0, swapped: bool = False):
    """Features of four classes, and logits of a base that mistakes one class for the next if `swapped`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    centers = np.random.default_rng(7).normal(size=(4, 16)) * apart
    features = centers[labels] + rng.normal(size=(count, 16))
    logits = features @ (np.roll(centers, 1, axis=0) if swapped else centers).T
    return features, logits, labels


def forecast_of(rows, *more):
    features, logits, labels = rows
    return forecast_labels(Seen(features, logits), labels, *more)


def test_a_base_that_is_right_already_needs_no_more_labels():
    found = forecast_of(drawn(80, apart=3.0), NAMES, 0.99)
    now, *_, most = found.expected
    assert now.accuracy > 0.95
    assert most.accuracy - now.accuracy < 0.02
    assert "hardly help" in found.advice[0]


def test_labels_are_worth_more_to_a_base_whose_classes_have_changed_places():
    found = forecast_of(drawn(40, swapped=True), NAMES, 0.95)
    now, *_, most = found.expected
    assert found.base_accuracy < 0.3
    assert now.accuracy > found.base_accuracy + 0.2
    assert most.accuracy > now.accuracy + 0.05


@pytest.mark.parametrize("swapped", [False, True])
def test_the_interval_holds_the_accuracy_that_more_labels_then_reach(swapped):
    features, logits, labels = drawn(1400, seed=1, apart=0.6, swapped=swapped)
    hits = []
    for seed in range(8):
        at = np.random.default_rng(seed).permutation(800)
        few, many = at[:40], at[:400]
        found = forecast_of((features[few], logits[few], labels[few]), NAMES, 0.9)
        problem, test = head_problem(features, logits, labels), np.arange(800, 1400)
        reached = max(problem.correct(many, test).mean(), (logits[test].argmax(1) == labels[test]).mean())
        hits.append(found.expected[-1].low <= reached <= found.expected[-1].high)
    assert np.mean(hits) >= 0.6


def test_intervals_are_narrower_with_more_labels_and_wider_for_one_stretch_of_time():
    widths = {}
    for count in (12, 80, 400):
        for stretch in (False, True):
            now = forecast_of(drawn(count), NAMES, 0.9, stretch).expected[0]
            widths[count, stretch] = now.high - now.low
    assert widths[12, False] > widths[80, False] > widths[400, False]
    assert all(widths[count, True] > widths[count, False] + 0.05 for count in (80, 400))


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 60), st.integers(0, 99), st.booleans(), st.booleans())
def test_every_forecast_is_ordered_and_within_0_and_1(count, seed, swapped, stretch):
    found = forecast_of(drawn(count, seed, swapped=swapped), NAMES, None, stretch)
    for expected in found.expected:
        assert 0 <= expected.low <= expected.accuracy <= expected.high <= 1
    accuracies = [expected.accuracy for expected in found.expected]
    assert min(np.diff(accuracies)) > -0.02  # a head may lose by a label, the base is kept then
    json.dumps(found.to_json(), allow_nan=False)


def test_the_same_labels_give_the_same_forecast():
    assert forecast_of(drawn(30), NAMES, 0.9) == forecast_of(drawn(30), NAMES, 0.9)


def test_classes_that_lack_labels_are_named():
    features, logits, labels = drawn(80)
    keep = (labels != 3) & ((labels != 2) | (np.arange(80) < 12))
    found = forecast_of((features[keep], logits[keep], labels[keep]), NAMES, 0.9)
    assert found.lacking == ("d", "c")  # the one with the fewest labels first
    assert "label d, c first" in found.advice[0]


@pytest.mark.parametrize("rows", [[0, 1], [0, 4, 8, 12]])
def test_too_few_labels_or_one_class_are_refused_with_what_is_needed(rows):
    features, logits, labels = drawn(20)
    with pytest.raises(DataError, match=r"right on \d of them. .* at least 3 labels, of two classes .*, d$"):
        forecast_of((features[rows], logits[rows], labels[rows]), NAMES)


def test_classes_of_the_model_that_the_data_do_not_name_lack_labels():
    features, logits, labels = drawn(80)
    keep = labels < 3
    found = forecast_of((features[keep], logits[keep], labels[keep]), NAMES[:3], 0.9)
    assert found.lacking == ("class 3",)


def test_the_curve_of_a_class_with_one_label_is_that_of_the_base():
    points = learning_curve(head_problem(*drawn(4)))
    assert [point.labels_per_class for point in points] == [0.0]


def test_a_law_is_bounded_by_the_accuracy_on_the_source():
    points = [Point(0, 0.3), Point(5, 0.5), Point(9, 0.58)]
    reached = [fit_law(points, 100, source).quantiles(1000)[0] for source in (0.6, 0.95)]
    assert reached[0] < 0.65 < reached[1]


def test_at_most_1000_labels_are_used_and_every_class_keeps_its_share():
    labels = np.repeat([0, 1], [3000, 1000])
    rows = spread_evenly(labels, MAX_LABELS)
    assert len(np.unique(rows)) == MAX_LABELS
    assert abs(np.bincount(labels[rows])[1] - 250) <= 1


def test_the_forecast_is_for_all_labels_at_hand_where_only_some_are_used(digits_blocks):
    samples = striped(1200, seed=3)
    found = tbft.forecast(digits_blocks, samples)
    assert [expected.labels for expected in found.expected] == [1200, 2400, 6000, 12000]


def test_the_order_of_a_stretch_is_that_of_its_time_not_of_the_file(digits_blocks):
    samples = striped(60, seed=3)
    timed = tbft.make_samples(samples.inputs, samples.labels, attributes={"time": np.arange(60)})
    mixed = timed.subset(np.random.default_rng(0).permutation(60))
    assert tbft.forecast(digits_blocks, mixed) == tbft.forecast(digits_blocks, timed)


def test_dates_that_may_be_read_in_two_ways_order_nothing(digits_blocks):
    columns = {"subject": np.arange(40) % 4, "date": np.array(["01/02/2023", "03/04/2023"] * 20)}
    samples = replace(striped(40), attributes=columns)
    assert rows_to_use(samples, from_one_stretch=True, limit=40).tolist() == list(range(40))
    assert tbft.forecast(digits_blocks, samples).expected


def test_the_model_is_as_it_was_and_any_form_of_data_is_taken(digits_blocks):
    before = {key: value.clone() for key, value in digits_blocks.model.state_dict().items()}
    samples = striped(30, seed=3)
    found = tbft.forecast(digits_blocks.model, (samples.inputs, samples.labels))
    assert found == tbft.forecast(digits_blocks, samples)
    assert all(torch.equal(before[k], v) for k, v in digits_blocks.model.state_dict().items())
    assert str(found).startswith("expected with a new head: ")


def test_the_summary_of_an_adaptation_has_a_line_on_labels_where_heads_were_tried():
    features, _, labels = drawn(440, apart=0.6)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    inputs = features.astype(np.float32)
    with torch.no_grad():
        hidden = model[1](model[0](torch.from_numpy(inputs[:200])))
        solved = torch.linalg.lstsq(hidden, torch.eye(4)[labels[:200]]).solution
        model[2].weight.copy_(solved.T)
        model[2].bias.zero_()
    card = tbft.build_card(model, (inputs[200:400], labels[200:400]))
    # the classes have changed places, as drift at the output level has it
    result = tbft.personalize(model, (inputs[400:], (labels[400:] + 1) % 4), card=card)
    assert result.choice.forecast.expected[1].labels == 2 * len(result.parts.train)
    assert any(line.startswith("labels ") for line in str(result).splitlines())
    assert result.to_json()["choice"]["forecast"]["source_accuracy"] == card.accuracy


def test_a_task_without_classes_and_an_unknown_word_are_refused(digits_blocks):
    samples = striped(30, seed=3)
    spec = tbft.InputSpec(targets=True)
    targets = tbft.make_samples(samples.inputs, np.linspace(0, 1, 30), spec=spec)
    with pytest.raises(DataError, match="needs class labels"):
        tbft.forecast(digits_blocks, targets)
    with pytest.raises(DataError, match="stretch"):
        tbft.forecast(digits_blocks, samples, drawn="strech")
    with pytest.raises(TypeError, match='"random" or "stretch"'):
        tbft.forecast(digits_blocks, samples, drawn=None)


def test_a_card_of_another_model_is_refused(digits_blocks):
    samples = striped(150, seed=3)
    predicted = predict(digits_blocks.model, samples).argmax(1).numpy()
    card = tbft.build_card(digits_blocks, replace(samples, labels=predicted))
    other = tbft.split(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), cuts=["1"])
    with pytest.raises(tbft.TbftError, match="another base model"):
        tbft.forecast(other, samples, card=card)


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    samples = striped(60, seed=3)
    np.savez(tmp_path / "set.npz", inputs=samples.inputs, labels=samples.labels)
    weights = tmp_path / "base.safetensors"
    from tbft.models import find_model, save_weights

    save_weights(find_model("digits").build().state_dict(), weights)
    command = ["forecast", "digits", "--weights", str(weights), "--data", str(tmp_path / "set.npz")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "per class" in printed
    assert "10x" in printed
    assert main([*command, "--json", "--drawn", "stretch"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [e["factor"] for e in values["expected"]] == [1, 2, 5, 10]
    assert values["from_one_stretch"]
    assert main([*command, "--samples", "2"]) == 2
