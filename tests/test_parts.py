"""Parts of one adaptation: defaults for few samples, own samples, and splits that stay as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbft.data import Samples, as_parts, make_samples, split_samples
from tbft.errors import DataError

PINNED_BY_CLASS = [[4, 12, 13, 15, 20, 23], [1, 3, 6, 8], [14, 18, 19, 21]]
PINNED_BY_GROUP = [[3, 4, 5, 6, 7, 8, 12, 13, 14], [21, 22, 23], [18, 19, 20]]


def noise(labels, names=None, **attributes) -> Samples:
    """Different 4x4 pictures with these labels."""
    pictures = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), dtype=np.uint8)
    return make_samples(pictures, labels, names, {k: np.asarray(v) for k, v in attributes.items()})


def ids(parts) -> list[list[int]]:
    return [part.ids.tolist() for part in (parts.train, parts.val, parts.test)]


def test_a_split_by_explicit_amounts_is_the_one_that_records_were_made_with():
    plain = split_samples(noise(np.arange(24) % 3), "0.25", "0.15", "0.15", seed=3)
    assert ids(plain) == PINNED_BY_CLASS
    grouped = noise(np.arange(24) % 3, subject=np.arange(24) // 3)
    assert ids(split_samples(grouped, 8, 4, 4, seed=3)) == PINNED_BY_GROUP


def test_all_that_is_not_held_out_is_trained_on():
    parts = as_parts(noise(np.arange(140) % 7))
    assert [len(p) for p in (parts.train, parts.val, parts.test)] == [112, 28, 0]
    assert set(parts.val.class_counts().values()) == {4}
    assert "28 of 140 to decide acceptance" in parts.notes[0]
    assert "no test part, so accuracy is measured on the samples that decide acceptance" in parts.notes[0]
    assert len(as_parts(noise(np.arange(6000) % 2)).val) == 500


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=3, max_size=40), seed=st.integers(0, 5))
def test_every_class_keeps_a_sample_for_training_however_few_there_are(labels, seed):
    samples = noise(labels, list("abcde"))
    parts = as_parts(samples, seed=seed)
    assert sorted(parts.train.ids.tolist() + parts.val.ids.tolist()) == list(range(len(labels)))
    assert set(parts.train.labels) == set(labels)


def test_nothing_is_held_out_where_nothing_can_be_and_it_is_told():
    parts = as_parts(noise([0, 1, 2]))
    assert (len(parts.train), len(parts.val)) == (3, 0)
    assert "nothing to decide acceptance" in parts.notes[0]
    assert len(as_parts(noise(np.arange(40) % 2), val=0).train) == 40


@pytest.mark.parametrize(
    ("val", "count"), [(0.25, 10), (6, 6), ("3/class", 6), ("25%", 10), (np.float64(0.25), 10)]
)
def test_a_part_may_be_a_share_or_a_count(val, count):
    parts = as_parts(noise(np.arange(40) % 2), val, val)
    assert [len(p) for p in (parts.train, parts.val, parts.test)] == [40 - 2 * count, count, count]


def test_own_samples_are_matched_to_the_training_samples():
    train = noise([0, 1, 0, 1], ["cat", "dog"])
    parts = as_parts(train, val=0, test=noise([0, 1, 1], ["dog", "cat"]))
    assert parts.test.labels.tolist() == [1, 0, 0]
    assert len(parts.train) == 4
    fewer = as_parts(noise([0, 1, 2]), test=noise([0, 1]))  # numbered classes, the last one absent
    assert fewer.test.class_names == ("0", "1", "2")
    with pytest.raises(DataError, match="unknown class 'eel'"):
        as_parts(train, test=noise([0, 1], ["eel", "cat"]))
    assert as_parts(train, test=noise([1, 1], ["eel", "cat"])).test.labels.tolist() == [0, 0]
    wide = make_samples(np.zeros((2, 8, 8), np.uint8), [0, 1], ["cat", "dog"])
    with pytest.raises(DataError, match="read both with the same options"):
        as_parts(train, val=wide)


def test_other_forms_are_read_by_whoever_knows_them():
    train = noise([0, 1, 0, 1])
    read = []
    parts = as_parts(train, 0, "photos/", as_samples=lambda given: read.append(given) or noise([1, 0]))
    assert read == ["photos/"]
    assert len(parts.test) == 2
    with pytest.raises(DataError, match="expected Samples, a share or a count, not str"):
        as_parts(train, "photos/")
    with pytest.raises(DataError, match="needs an amount for train"):
        as_parts(train, test="rest")
