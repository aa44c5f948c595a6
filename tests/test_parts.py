"""Parts of one adaptation: defaults for few samples, own samples, and splits that stay as they were."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbft.data import Samples, as_parts, make_samples, parse_amount, split_samples
from tbft.data.amounts import Amount, Amounts, SplitBy, ValUse
from tbft.data.splitting import split_by
from tbft.data.times import order_keys, positions_in_time
from tbft.errors import DataError, FormError

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
    assert (
        "no test part, so accuracy is measured on the val part, which also decides acceptance" in parts.notes
    )
    assert len(as_parts(noise(np.arange(6000) % 2)).val) == 500


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=3, max_size=40), seed=st.integers(0, 5))
def test_every_class_keeps_a_sample_for_training_however_few_there_are(labels, seed):
    samples = noise(labels, list("abcde"))
    parts = as_parts(samples, by=SplitBy(seed))
    assert sorted(parts.train.ids.tolist() + parts.val.ids.tolist()) == list(range(len(labels)))
    assert set(parts.train.labels) == set(labels)


def test_what_is_held_out_is_said_to_be_for_what_it_is_used_for():
    samples = noise(np.arange(140) % 7)
    said = {use: " ".join(as_parts(samples, by=SplitBy(val_use=use)).notes) for use in get_args(ValUse)}
    assert "to choose the epoch" in said["epoch"] and "to evaluate on" in said["evaluation"]
    assert "accept" in said["acceptance"] and "accept" not in said["epoch"] + said["evaluation"]
    assert "nothing decides" not in " ".join(as_parts(samples, val=0, by=SplitBy(val_use="epoch")).notes)


def test_nothing_is_held_out_where_nothing_can_be_and_a_note_says_so():
    parts = as_parts(noise([0, 1, 2]))
    assert (len(parts.train), len(parts.val)) == (3, 0)
    assert any("nothing decides whether the tuned model is kept" in note for note in parts.notes)
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
    with pytest.raises(FormError, match="expected Samples, a share or a count, not str"):
        as_parts(train, "photos/")
    with pytest.raises(DataError, match="needs an amount for train"):
        as_parts(train, test="rest")


# --- groups ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    "subject subject_id Subject SUBJ patientId Patients user UID userid wearer participant-no. camera "
    "Camera.ID site session_id recordings subjectIDs person_name SUBJECT_ID".split(),
)
def test_a_group_column_is_found_in_any_spelling(key):
    person = np.random.default_rng(1).permutation(np.repeat(np.arange(12), 20))
    parts = split_samples(noise(np.arange(240) % 3, **{key: person}), 0.5, 0.1, 0.3)
    assert parts.group_by == key
    seen = [set(p.attributes[key].tolist()) for p in (parts.train, parts.val, parts.test)]
    assert sum(map(len, seen)) == len(set.union(*seen))


@pytest.mark.parametrize(
    "key", ["subject_age", "sex", "domain", "leaf", "time of day", "camera_model", "file"]
)
def test_other_columns_are_not_groups(key):
    samples = noise(np.arange(24) % 3, **{key: np.arange(24) // 6})
    assert split_samples(samples, 0.5, 0, 0.25, group_by=None).group_by is None


def test_what_looks_like_a_group_column_is_named():
    samples = noise(np.arange(60) % 3, rig=np.arange(60) // 10, kind=np.arange(60) % 3, x=np.arange(60))
    notes = split_samples(samples, 0.5, 0, 0.25).notes
    assert any("not used as such: rig (6 values);" in note and "--group-by" in note for note in notes)


@pytest.mark.parametrize("missing", [np.nan, None, "", "unknown"])
def test_samples_of_unknown_groups_are_one_group_that_is_trained_on(missing):
    subject = np.repeat(np.arange(10.0), 20).astype(float if missing is np.nan else object)
    subject[np.random.default_rng(0).permutation(200)[:60]] = missing
    parts = split_samples(noise(np.arange(200) % 2, subject=subject), "rest", 0, 0.3)
    assert len(parts.train) + len(parts.test) == 200
    assert any("60 of 200 samples have no subject" in note for note in parts.notes)
    known = [
        v for v in parts.test.attributes["subject"].tolist() if v == v and v not in (None, "", "unknown")
    ]
    assert len(known) == len(parts.test) > 20


def test_every_part_gets_every_class_where_whole_groups_allow_it():
    diagnosis, person = np.repeat([0, 0, 0, 0, 1, 1], 20), np.repeat(np.arange(6), 20)
    samples = noise(diagnosis, ["healthy", "ill"], subject=person)
    for seed in range(40):
        parts = split_samples(samples, 0.4, 0, 0.4, seed=seed)
        assert set(parts.train.labels) == set(parts.test.labels) == {0, 1}
        assert not set(parts.train.attributes["subject"]) & set(parts.test.attributes["subject"])


def test_a_class_that_a_part_lacks_is_named_with_the_column_and_the_remedy():
    person = np.arange(60) // 10
    samples = noise(np.where(person == 5, 1, 0), ["healthy", "ill"], patient=person)
    for seed in range(8):
        parts = split_samples(samples, "rest", 0, 0.3, seed=seed)
        assert "ill" in {samples.class_names[y] for y in parts.train.labels}
        assert any("test has no sample of ill, grouped by patient (--group-by none" in n for n in parts.notes)
    pure = noise(np.arange(30) // 10, patient=np.arange(30) // 10)
    with pytest.raises(DataError, match=r"no sample of .*'patient'.*--group-by none"):
        split_samples(pure, "rest", 0, 0.3)


def test_a_few_samples_of_each_recording_are_trained_on_where_each_holds_one_class():
    series = np.arange(240) // 20  # twelve recordings, three of each of four classes
    parts = split_samples(noise(series % 4, series=series), 40, 0, 60)
    assert len(parts.train) == 40
    assert min(parts.train.class_counts().values()) >= 5
    assert not set(parts.train.attributes["series"]) & set(parts.test.attributes["series"])


def test_by_default_whole_groups_are_held_out_where_they_are_many():
    parts = as_parts(noise(np.arange(200) % 4, subject=np.arange(200) // 20))
    assert (parts.group_by, len(parts.val)) == ("subject", 40)
    assert "(by subject)" in parts.notes[0]
    narrower = noise(np.arange(200) % 4, site=np.arange(200) // 100, session=np.arange(200) // 20)
    assert as_parts(narrower).group_by == "session"


def test_by_default_the_last_of_each_class_are_held_out_where_groups_hold_one_class():
    samples = noise(np.arange(40) // 10, series=np.arange(40) // 10)
    parts = as_parts(samples)
    assert parts.val.ids.tolist() == [8, 9, 18, 19, 28, 29, 38, 39]
    assert any("whole groups of series" in note for note in parts.notes)
    with pytest.raises(DataError, match="no group of series can be held out"):
        as_parts(samples, by=SplitBy(group_by="series"))


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 9), min_size=20, max_size=60),
    purity=st.integers(1, 4),
    amounts=st.tuples(
        st.sampled_from(["rest", 0.3, "2/class"]), st.sampled_from([0, 0.2]), st.sampled_from([0, 0.3])
    ),
    seed=st.integers(0, 5),
)
def test_grouped_parts_share_no_group_and_train_lacks_no_class(groups, purity, amounts, seed):
    labels = (np.array(groups) // purity + np.arange(len(groups)) % purity) % 3
    samples = noise(labels, list("abc"), subject=groups)
    try:
        parts = split_samples(samples, *amounts, seed=seed, group_by="subject")
    except DataError:
        return
    used = [p for p in (parts.train, parts.val, parts.test) if len(p)]
    seen = [set(p.attributes["subject"].tolist()) for p in used]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert set(parts.train.labels) >= set(parts.val.labels) | set(parts.test.labels)


# --- copies ----------------------------------------------------------------------------------


def test_copies_of_one_input_stay_in_one_part():
    base = noise(np.repeat([0, 1], 20))
    twice = make_samples(np.concatenate([base.inputs, base.inputs]), np.tile(base.labels, 2))
    parts = split_samples(twice, 0.5, 0.1, 0.3)
    seen = [{x.tobytes() for x in p.inputs} for p in (parts.train, parts.val, parts.test)]
    assert not seen[0] & seen[2] and not seen[0] & seen[1] and not seen[1] & seen[2]
    assert [len(p) for p in (parts.train, parts.val, parts.test)] == [40, 8, 24]
    assert "40 of 80 samples are exact copies of others: copies of one input are in one part" in parts.notes
    assert not {x.tobytes() for x in as_parts(twice).val.inputs} & {
        x.tobytes() for x in as_parts(twice).train.inputs
    }


def test_copies_with_two_labels_and_in_two_groups_stay_together():
    pictures = noise(np.arange(40)).inputs
    labels = np.arange(80) % 2
    both = make_samples(pictures[np.arange(80) // 2], labels, ["a", "b"])
    for seed in range(5):
        parts = split_samples(both, 0.5, 0, 0.3, seed=seed)
        assert not {x.tobytes() for x in parts.train.inputs} & {x.tobytes() for x in parts.test.inputs}
    grouped = make_samples(
        pictures[np.r_[np.arange(40), 0]], np.arange(41) % 2, None, {"subject": np.r_[np.arange(40) // 4, 9]}
    )
    for seed in range(5):
        parts = split_samples(grouped, 0.5, 0, 0.3, seed=seed)
        assert not {x.tobytes() for x in parts.train.inputs} & {x.tobytes() for x in parts.test.inputs}


def test_copies_are_parted_where_a_class_has_nothing_else_and_it_is_said():
    pictures = noise([0, 1]).inputs.repeat(30, axis=0)
    parts = split_samples(make_samples(pictures, np.repeat([0, 1], 30)), "rest", 0, 0.2)
    assert [len(parts.train), len(parts.test)] == [48, 12]
    assert (
        "58 of 60 samples are exact copies of others: 60 samples have a copy in another part" in parts.notes
    )


def test_blank_inputs_are_not_copies():
    blank = make_samples(np.zeros((40, 4, 4), np.uint8), np.arange(40) % 2)
    assert [len(p) for p in (as_parts(blank).train, as_parts(blank).val)] == [32, 8]
    assert not any("copies" in note for note in as_parts(blank).notes)


def test_copies_of_training_samples_in_a_test_set_of_its_own_are_counted():
    train = noise(np.arange(20) % 2)
    notes = as_parts(train, val=0, test=train.subset([3, 5, 6])).notes
    assert "3 of 3 samples in test are exact copies of training samples" in notes


# --- time ------------------------------------------------------------------------------------


def test_windows_of_which_only_the_time_is_known_are_parted_in_time():
    time = np.random.default_rng(0).permutation(60)
    parts = split_samples(noise((time // 10) % 2, start_time=time), "rest", 0.1, 0.2)
    for c in (0, 1):
        train, val, test = (
            p.attributes["start_time"][p.labels == c] for p in (parts.train, parts.val, parts.test)
        )
        assert train.max() < val.min() <= val.max() < test.min()
    assert any("--order none" in note for note in parts.notes)
    assert as_parts(noise(time % 2, start_time=time)).val.attributes["start_time"].min() >= 48


@pytest.mark.parametrize(("amount", "count"), [("first:20%", 24), ("first:30", 30), ("first:6/class", 18)])
def test_calibration_trains_on_the_first_of_each_class_and_tests_on_what_came_later(amount, count):
    step = np.arange(120)
    samples = noise(step // 5 % 3, subject=step // 60, index=step % 60)
    parts = split_by(samples, Amounts(parse_amount(amount), None, Amount()), SplitBy())
    assert len(parts.train) + len(parts.val) == count
    assert len(parts.test) == 120 - count
    assert set(parts.train.labels) == {0, 1, 2}
    for s in (0, 1):
        for c in (0, 1, 2):
            early, late = (
                p.attributes["index"][(p.labels == c) & (p.attributes["subject"] == s)]
                for p in (parts.train, parts.test)
            )
            assert early.max() < late.min()
    assert "in the order of index" in parts.notes[0]
    assert parts.group_by is None  # both subjects are in both parts


def test_the_order_is_that_of_the_set_where_nothing_gives_it():
    parts = split_by(noise(np.arange(40) % 2), Amounts(parse_amount("first:10"), Amount(count=0)), SplitBy())
    assert parts.train.ids.tolist() == list(range(10))
    assert any("--order KEY names one" in note for note in parts.notes)
    assert "30 of 40 samples are in no part" in parts.notes
    with pytest.raises(DataError, match="--order when: these samples have no attributes; a column"):
        split_by(noise([0, 1]), Amounts(), SplitBy(order="when"))


DATES = {
    "iso": ["2023-01-09", "2023-02-01", "2023-11-01", "2023-12-24"],
    "short": ["2023-1-9", "2023-2-1", "2023-11-1", "2023-12-24"],
    "with dots": ["9.1.2023", "1.2.2023", "1.11.2023", "24.12.2023"],
    "day first": ["09/01/2023 10:00", "01/02/2023 09:30", "01/11/2023 8:00", "24/12/2023 23:59:59"],
    "month first": ["01/09/2023, 1:00 PM", "02/01/2023 9:00 AM", "11/01/2023 1:00 AM", "12/24/2023 2:00 PM"],
    "of cameras": ["2023:01:09 10:00:00", "2023:01:09 10:00:01", "2023:02:01 00:00:00", "2024:01:01 0:00:00"],
    "zones": ["2023-01-01T12:00+02:00", "2023-01-01T10:30Z", "2023-01-01T06:00-05:00", "2023-01-02T00:00Z"],
    "hours": ["9:05", "9:10", "10:00", "23:00"],
    "frames": ["frame_9", "frame_10", "frame_99", "frame_100"],
    "unix": ["9.5", "10", "1e2", "1000"],
}  # fmt: skip


@pytest.mark.parametrize("values", DATES.values(), ids=DATES)
def test_dates_in_any_usual_form_are_in_the_order_of_time(values):
    samples = noise([0] * 8, time=np.array([*values, *reversed(values)]))
    ranks = positions_in_time(samples, ["time"])
    assert ranks.tolist() == [0, 2, 4, 6, 7, 5, 3, 1]


@pytest.mark.parametrize(
    "values", [["01/02/2023", "03/04/2023"], ["noon", "dawn"], ["2023-01-01 10:00", "2023-01-01 10:00Z"]]
)
def test_an_uncertain_order_is_refused_where_asked_for_and_not_taken_where_not(values):
    samples = noise([0, 1, 0, 1], time=np.array(values * 2))
    assert order_keys(samples, asked=False) == []
    with pytest.raises(DataError, match=r"--order time: .*2023-01-31.*--order file"):
        split_by(samples, Amounts(), SplitBy(order="time"))
