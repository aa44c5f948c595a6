"""Cross-fitted acceptance: all labels are tuned on, and each is judged by a model not tuned on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import fitted
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tbft
from tbft.choosing.planning import is_representative
from tbft.data import make_samples
from tbft.data.amounts import SplitBy
from tbft.data.folds import FOLDS, MIN_HELD_OUT, folds_of
from tbft.data.manner import find_manner
from tbft.data.origin import origin_of
from tbft.data.parts import as_parts

SHORT = tbft.find_recipe("fast").given(epochs=20, learning_rate=0.05)


def noise(labels, **attributes):
    labels = np.asarray(labels)
    inputs = np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32)
    return replace(make_samples(inputs, labels), attributes={k: np.asarray(v) for k, v in attributes.items()})


def folded(samples, **by):
    return as_parts(samples, by=SplitBy(**by, min_val=MIN_HELD_OUT))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=190), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_each_sample_is_judged_once_and_classes_of_two_are_on_both_sides(labels, seed):
    parts = folded(noise(labels), seed=seed)
    assert (len(parts.train), len(parts.val)) == (len(labels), 0)
    sizes = np.bincount(parts.folds)
    assert parts.run_count == len(sizes) == min(FOLDS, len(labels)) and sizes.min() > 0
    assert sizes.max() - sizes.min() <= 6
    for fold in range(len(sizes)):
        inside, others = (parts.train.labels[parts.folds == fold], parts.train.labels[parts.folds != fold])
        counts = np.bincount(parts.train.labels)
        assert all(label in others for label in inside if counts[label] > 1)


def test_enough_samples_are_held_out_instead():
    assert folded(noise(np.arange(200) % 2)).folds is None
    assert as_parts(noise(np.arange(20) % 2)).folds is None
    for val in (0, 5):
        assert as_parts(noise(np.arange(20) % 2), val=val, by=SplitBy(min_val=MIN_HELD_OUT)).folds is None


def test_groups_lie_in_one_fold_each():
    subject = np.arange(60) // 6
    parts = folded(noise(np.arange(60) % 3, subject=subject))
    assert parts.group_by == "subject"
    assert all(len(np.unique(parts.folds[parts.train.attributes["subject"] == s])) == 1 for s in range(10))
    assert np.bincount(parts.folds).max() <= 18
    assert any("by subject" in note for note in parts.notes)


def test_samples_of_no_known_group_are_only_trained_on():
    subject = np.array([*"aabbccdd", "", ""])
    parts = folded(noise(np.arange(10) % 2, subject=subject))
    assert (parts.folds[-2:] == -1).all() and parts.judged_count == 8


def test_a_class_that_one_group_has_alone_is_judged_in_stretches_of_time():
    labels = np.repeat([0, 1], 20)
    parts = folded(noise(labels, subject=labels, time=np.arange(40)))
    assert parts.group_by is None
    assert any("not made of whole groups of subject" in note for note in parts.notes)
    assert (np.diff(parts.folds[:20]) != 0).sum() == FOLDS - 1


def test_in_an_order_of_time_a_fold_is_one_stretch_of_each_class():
    time = np.random.default_rng(0).permutation(80)
    parts = folded(noise(time % 2, timestamp=time))
    for label in (0, 1):
        own = parts.train.labels == label
        in_time = parts.folds[own][np.argsort(parts.train.attributes["timestamp"][own])]
        assert (np.diff(in_time) != 0).sum() == FOLDS - 1
    assert any("stretches of timestamp" in note for note in parts.notes)


def test_folds_for_trials_are_stretches_of_the_set_where_nothing_is_known():
    for labels, found in ((np.repeat([0, 1], 6), [0, 0, 1, 1, 2, 2] * 2), (np.arange(6), [0, 1, 2] * 2)):
        samples = noise(labels)
        folds = folds_of(find_manner(samples, {}, SplitBy()), 3, in_order=True)
        assert folds.tolist() == found


def test_groups_that_the_user_named_are_those_of_all_folds():
    samples = noise(np.arange(400) % 2, shoe=np.arange(400) // 50)
    parts = folded(samples, group_by="shoe")
    assert parts.folds is None and len(parts.val)
    for count in (3, FOLDS):
        folds = folds_of(parts.manner, count)
        assert len(np.unique(folds)) == count
        assert all(len(np.unique(folds[parts.train.attributes["shoe"] == s])) <= 1 for s in range(8))


def test_groups_that_cannot_be_folds_do_not_end_a_trial():
    parts = as_parts(noise(np.arange(20) // 10, subject=np.arange(20) // 10), val=0, by=SplitBy(0, "subject"))
    assert parts.manner.is_asked
    assert np.bincount(folds_of(parts.manner, 2)).tolist() == [10, 10]


def test_copies_are_in_one_fold():
    samples = noise(np.arange(20) % 2)
    twice = samples.subset(np.tile(np.arange(20), 2))
    folds = folded(twice).folds
    assert (folds[:20] == folds[20:]).all()


def clusters(count, swapped=False, seed=1):
    """Points around three centers."""
    labels = np.arange(count) % 3
    centers = np.random.default_rng(9).normal(size=(3, 6)) * 2
    inputs = centers[labels] + np.random.default_rng(seed).normal(size=(count, 6)) / 2
    return inputs.astype(np.float32), (2 - labels if swapped else labels).astype(np.int64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    return fitted(model, *clusters(300, seed=5), rate=0.02)


def test_few_labels_are_all_tuned_on_and_all_judged(network):
    before = tbft.fingerprint(network.state_dict())
    steps = []
    result = tbft.personalize(
        network, clusters(18, swapped=True), arm="full", recipe=SHORT, progress=lambda *s: steps.append(s)
    )
    judged = result.acceptance
    assert (len(result.parts.train), judged.count, judged.cross_fitted) == (18, 18, True)
    assert (result.status, judged.verdict) == ("patched", "helps")
    assert (result.comparison.part, result.after.sample_count) == ("folds", 18)
    assert result.after.accuracy - result.before.accuracy == pytest.approx(judged.gain)
    assert "cross-fitted on 18 labels" in str(result) and "by models not tuned on them" in str(result)
    assert tbft.fingerprint(network.state_dict()) == before
    assert steps[-1][0] == steps[-1][1]
    again = tbft.personalize(network, clusters(18, swapped=True), val=0, arm="full", recipe=SHORT)
    assert again.patch.header.tuned_fingerprint == result.patch.header.tuned_fingerprint


def test_a_plan_that_the_folds_reject_is_not_carried_out(network):
    result = tbft.personalize(network, clusters(30), arm="full", recipe=SHORT)
    assert (result.status, result.tuned.history, len(result.patch.tensors)) == ("rejected", (), 0)
    assert result.before == result.after
    assert "the base is kept" in str(result) and ": 163 parameters tuned" in str(result)


def test_caution_is_the_default_and_can_be_refused(network):
    def adapted(**how):
        return tbft.personalize(network, clusters(6, swapped=True), level="output", recipe=SHORT, **how)

    assert adapted().acceptance.cautious and not adapted(cautious=False).acceptance.cautious


@pytest.mark.parametrize("count", [3, 4, 5])
def test_one_label_a_class_is_enough_to_run(network, count):
    result = tbft.personalize(network, clusters(count), arm="full", recipe=SHORT)
    assert result.acceptance.count == count and result.status == "rejected"


def test_a_fold_that_has_a_class_alone_counts_as_unchanged_where_the_plan_needs_every_class(network):
    some = tbft.personalize(network, clusters(5, swapped=True), arm="prototypes")
    assert some.acceptance.count == 5 and some.status == "rejected"
    with pytest.raises(tbft.TbftError, match=r"with 2 of 3 samples.*needs labels of every class.*--val 0"):
        tbft.personalize(network, clusters(3), arm="prototypes")
    unjudged = tbft.personalize(network, clusters(3), arm="prototypes", val=0)
    assert (unjudged.status, unjudged.acceptance) == ("patched", None)


def test_ctrl_c_while_folds_are_judged_leave_the_base(network):
    def interrupt(done, total):
        if done > 30:  # some epochs of the first fold are through
            raise KeyboardInterrupt

    result = tbft.personalize(network, clusters(30), arm="full", recipe=SHORT, progress=interrupt)
    assert (result.status, result.stopped, result.acceptance) == ("stopped", "interrupt", None)


def test_targets_are_cross_fitted_too(network):
    inputs, labels = clusters(24)
    targets = np.eye(3, dtype=np.float32)[2 - labels] * 3
    result = tbft.personalize(
        network, (inputs, targets), arm="full", recipe=SHORT, loss=nn.functional.mse_loss
    )
    assert (result.acceptance.cross_fitted, result.acceptance.verdict) == (True, "helps")
    assert "cross-fitted on 24 samples" in str(result)


def test_the_front_door_takes_the_order_of_time_as_the_command_line_does(network):
    inputs, labels = clusters(90, swapped=True)
    hours = np.random.default_rng(0).permutation(90)
    samples = tbft.make_samples(inputs, labels, attributes={"hour": hours})
    result = tbft.personalize(network, samples, test=30, order="hour", arm="none")
    for label in range(3):
        train, test = (
            part.attributes["hour"][part.labels == label] for part in (result.parts.train, result.parts.test)
        )
        assert train.max() < test.min()
    assert any("in the order of hour" in note for note in result.parts.notes)
    with pytest.raises(tbft.errors.PlanError, match="leave out val, test, group_by and order"):
        tbft.personalize(network, result.parts, order="hour", arm="none")


def test_a_column_of_time_makes_few_labels_one_stretch(network):
    inputs, labels = clusters(30, swapped=True)
    for attributes, known in (({}, False), ({"time": np.arange(30)}, True)):
        samples = tbft.make_samples(inputs, labels, attributes=attributes)
        result = tbft.personalize(network, samples, arm="head", recipe=SHORT)
        assert (result.acceptance.later_loss_chance is not None) == known
    drawn = tbft.personalize(network, samples, arm="head", recipe=SHORT, order="none")
    assert drawn.acceptance.origin == "random"


def test_how_samples_came_about_is_read_off_their_shape_and_attributes():
    rows, windows = np.zeros((40, 3), np.float32), np.zeros((40, 2, 5), np.float32)
    labels = np.arange(40) % 2

    def origin(inputs, attributes=None, order=None):
        samples = tbft.make_samples(inputs, labels, attributes=attributes)
        return origin_of(samples, find_manner(samples, {}, SplitBy(order=order)))

    few, many = ({"recording": np.arange(40) // per} for per in (20, 4))
    assert origin(rows) == "random"
    assert origin(windows) == "unknown"
    assert origin(windows, order="none") == "random"
    assert origin(rows, {"time": np.arange(40)}) == "stretch"
    assert origin(rows, order="file") == "stretch"
    assert origin(windows, few) == "stretch"
    assert origin(windows, many) == "random"


@pytest.mark.parametrize("arm", ["head", "ridge"])
def test_classes_without_labels_are_not_unlearned(arm):
    """Three clusters that moved, labels of two of them: the third is still recognized, and a note says so."""
    generator = np.random.default_rng(0)
    centers = np.eye(3, 6) * 4

    def drawn(count, shift):
        labels = np.repeat(np.arange(3), count)
        return (centers[labels] + generator.normal(size=(3 * count, 6)) + shift).astype(np.float32), labels

    torch.manual_seed(0)
    layers = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)
    model = fitted(nn.Sequential(*layers).eval(), *map(torch.from_numpy, drawn(60, 0.0)))
    inputs, labels = drawn(40, np.array([-1, -1, -1, 0, 0, 0], np.float32))
    some = labels < 2
    result = tbft.personalize(model, (inputs[some], labels[some]), arm=arm, val=0)
    absent = torch.from_numpy(inputs[~some])
    with result.patch.applied(model):
        assert float((model(absent).argmax(1) == 2).float().mean()) > 0.85
    assert any("1 of the model's 3 classes have no labels" in note for note in result.notes)


def test_nothing_is_expected_of_labels_whose_mix_of_classes_may_look_like_drift():
    inputs, labels = clusters(90, swapped=True)
    network = tbft.split(nn.Sequential(nn.Linear(inputs.shape[1], int(labels.max()) + 1)))
    counted = {
        "all": labels >= 0,
        "few": (labels > 0) | (np.arange(len(labels)) % 7 == 0),
        "none": labels > 0,
    }
    found = {
        name: is_representative(network, tbft.make_samples(inputs[rows], labels[rows]))
        for name, rows in counted.items()
    }
    assert found == {"all": True, "few": False, "none": False}


def test_a_wrong_kind_of_order_is_refused(network):
    with pytest.raises(tbft.errors.FormError, match="'file' or 'none'"):
        tbft.personalize(network, clusters(30), order=5)
