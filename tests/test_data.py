"""Readers, splits and drifts: what goes in comes out, and what is wrong is told."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tbft.data import InputSpec, make_samples, read, split_samples
from tbft.data.cifar import CIFAR10_CLASSES
from tbft.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def write_folder(root: Path, pictures=RGB, classes=("cat", "dog")) -> Path:
    for i, picture in enumerate(pictures):
        place = root / classes[i % len(classes)] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place)
    return root


@pytest.fixture
def sources(tmp_path):
    """The same six pictures in every form that a reader takes."""
    labels = np.array([0, 1, 0, 1, 0, 1])
    write_folder(tmp_path / "folder")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "folder", "set")
    np.savez(tmp_path / "set.npz", x=RGB, y=labels, subject=np.arange(6) // 2, classes=["cat", "dog"])
    c = tmp_path / "cifar-c"
    c.mkdir()
    np.save(c / "fog.npy", RGB)
    np.save(c / "labels.npy", labels)
    planes = RGB.transpose(0, 3, 1, 2).reshape(6, -1)
    (tmp_path / "test_batch.bin").write_bytes(np.hstack([labels[:, None].astype(np.uint8), planes]).tobytes())
    batch = {b"data": planes, b"labels": labels.tolist()}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path


@pytest.mark.parametrize("form", ["folder", "set.tar", "set.npz", "cifar-c", "test_batch.bin", "test_batch"])
def test_every_form_gives_the_same_samples(sources, form):
    samples = read(sources / form)
    order = np.argsort(samples.labels, kind="stable")
    np.testing.assert_array_equal(samples.inputs[order], RGB[[0, 2, 4, 1, 3, 5]])
    assert samples.labels[order].tolist() == [0, 0, 0, 1, 1, 1]
    x, y = samples.batch(slice(0, 2))
    assert x.shape == (2, 3, 32, 32)
    assert x.dtype.is_floating_point
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert y.tolist() == samples.labels[:2].tolist()


def test_attributes_and_where(sources):
    samples = read(sources / "set.npz", where={"subject": "1"})
    assert samples.ids.tolist() == [2, 3]
    assert samples.class_names == ("cat", "dog")
    with pytest.raises(DataError, match="no sample has subject=9; subject is one of 0, 1, 2"):
        read(sources / "set.npz", where={"subject": "9"})
    with pytest.raises(DataError, match="unknown attribute 'subjekt': did you mean 'subject'"):
        read(sources / "set.npz", where={"subjekt": "1"})


def test_conditions_choose_any_of_several_values_and_exclude(tmp_path):
    fields = {"site": np.repeat(["a", "b", "c"], 2), "day": np.array([1.0, 2, 1, 2, 1, np.nan])}
    np.savez(tmp_path / "set.npz", x=RGB, y=np.arange(6) % 2, **fields)
    for where, ids in (
        (["site=a", "site=b"], [0, 1, 2, 3]),
        (["site!=b"], [0, 1, 4, 5]),
        (["site!=b", "day=1"], [0, 4]),
        (["day!=1.0", "day!=2"], [5]),
        ({"site": ["a", "c"], "day": 2}, [1]),
        ("day=nan", [5]),
    ):
        assert read(tmp_path / "set.npz", where=where).ids.tolist() == ids
    for where, message in (
        (["site=a", "site=d"], "no sample has site=d; site is one of a, b, c"),
        (["sight=a"], "unknown attribute 'sight': did you mean 'site'"),
        (["site!=x"], "no sample has site=x"),
        (["site=c", "day=2"], "no sample is left where site c and day 2"),
        (["site"], "write KEY=VALUE or KEY!=VALUE"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / "set.npz", where=where)


def test_published_cifar10c_has_five_severities_and_stays_on_disk(tmp_path):
    np.save(
        tmp_path / "fog.npy", np.repeat(np.arange(5, dtype=np.uint8), 4)[:, None, None, None] + RGB[:1] * 0
    )
    np.save(tmp_path / "snow.npy", np.zeros((20, 32, 32, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.tile([0, 1, 1, 0], 5))
    with pytest.raises(DataError, match=r"--where corruption=NAME: fog, snow"):
        read(tmp_path)
    samples = read(tmp_path, where={"corruption": "fog", "severity": "4"})
    assert len(samples) == 4
    assert (samples.inputs == 3).all()
    assert isinstance(samples.inputs, np.memmap)
    assert samples.ids.tolist() == [12, 13, 14, 15]
    assert split_samples(samples, 0.25, 0.25, 0.25).group_by is None
    whole = read(tmp_path, where={"corruption": "fog"})
    assert split_samples(whole, 0.25, 0.25, 0.25).group_by == "picture"  # five severities of one picture


def test_pictures_are_resized_to_what_the_model_takes(tmp_path):
    spec = InputSpec(resolution=16, channels=3)
    assert read(write_folder(tmp_path / "a"), spec).inputs.shape == (6, 16, 16, 3)
    np.savez(tmp_path / "a.npz", images=RGB[:, :, :20], labels=np.zeros(6, int))
    assert read(tmp_path / "a.npz", spec).inputs.shape == (6, 16, 16, 3)


def test_pictures_of_mixed_sizes_need_a_resolution_and_those_of_mixed_channels_nothing(tmp_path):
    sizes = write_folder(tmp_path / "sizes", [RGB[0], np.zeros((40, 32, 3), np.uint8)])
    with pytest.raises(DataError, match=r"2 sizes: 32x32 px \(1, cat/0.png\), 32x40 .*--resolution"):
        read(sizes)
    assert read(sizes, InputSpec(mixed=True)).inputs.shape == (2, 32, 32, 3)
    fitted = read(sizes, InputSpec(resolution=32))
    assert fitted.inputs.shape == (2, 32, 32, 3)
    assert any("1 picture (32x40 px) was fitted to 32x32 px" in note for note in fitted.notes)
    gray = write_folder(tmp_path / "gray", [RGB[0], np.full((32, 32), 7, np.uint8)])
    for spec in (InputSpec(), InputSpec(resolution=32, channels=3)):
        mixed = read(gray, spec)
        assert mixed.inputs.shape == (2, 32, 32, 3)
        assert (mixed.inputs[1] == 7).all()
        assert any("dog/1.png) was gray" in note for note in mixed.notes)
    lone = read(gray, InputSpec(resolution=32, channels=1))
    assert lone.inputs.shape == (2, 32, 32, 1)
    assert any("from color to gray" in note for note in lone.notes)


def test_channels_that_pictures_cannot_have_are_refused(tmp_path):
    with pytest.raises(DataError, match="takes 6 channels; pictures have 1, 3 or 4"):
        read(write_folder(tmp_path / "set"), InputSpec(resolution=32, channels=6))
    np.savez(tmp_path / "gray.npz", x=RGB[..., :2], y=np.zeros(6, int))
    with pytest.raises(DataError, match="takes 3 channels"):
        read(tmp_path / "gray.npz", InputSpec(resolution=32, channels=3))


def test_floats_have_to_be_finite_and_in_range(tmp_path):
    spec = InputSpec(resolution=32, channels=3)
    floats = (RGB / 255).astype(np.float32)
    for name, values, message in (
        ("nan", np.where(floats > 0.99, np.nan, floats), "NaN or infinite"),
        ("inf", np.where(floats > 0.99, np.inf, floats), "NaN or infinite"),
        ("contrast", floats * 3, r"not in \[0, 1\].*--range 0-N"),
    ):
        np.savez(tmp_path / f"{name}.npz", x=values, y=np.zeros(6, int))
        with pytest.raises(DataError, match=message):
            read(tmp_path / f"{name}.npz", spec)
    np.savez(tmp_path / "ok.npz", x=floats, y=np.zeros(6, int))
    assert read(tmp_path / "ok.npz", spec).inputs.shape == (6, 3, 32, 32)


def test_missing_empty_and_foreign_data_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.tar").write_bytes(b"not a tar")
    (tmp_path / "cut.npz").write_bytes(b"PK not a zip")
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    (tmp_path / "folder" / "cat" / "a.png").write_bytes(b"no picture")
    for source, message in (
        ("nowhere", "no such file or folder; expected a folder, .tar"),
        ("empty", "no pictures"),
        ("cut.tar", "damaged, or not a tar"),
        ("cut.npz", "damaged"),
        ("folder", r"1 of 1 file cannot be read: cat/a.png \(its content"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / source)


def test_labels_and_classes_are_checked(sources):
    with pytest.raises(DataError, match=r"no such class: unknown class 'cat'.*Known: horse"):
        read(sources / "folder", InputSpec(class_names=("horse", "dog")))
    with pytest.raises(DataError, match=r"3 labels are out of range: sample 1 has label 1"):
        read(sources / "cifar-c", InputSpec(class_names=("horse",)))
    with pytest.raises(DataError, match="whole numbers"):
        make_samples(RGB, np.arange(6) / 2)
    with pytest.raises(DataError, match="6 inputs but labels of shape"):
        make_samples(RGB, [0, 1])
    assert read(sources / "test_batch").class_names == CIFAR10_CLASSES


class Boom:
    def __reduce__(self):
        return (print, ("owned",))


def test_a_malicious_batch_is_not_run(tmp_path, capsys):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Boom(), b"labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"wants __builtin__\.print"):
        read(tmp_path / "data_batch_1")
    (tmp_path / "x.npz").write_bytes(_npz_of_objects())
    with pytest.raises(DataError, match="holds Python objects"):
        read(tmp_path / "x.npz")
    assert "owned" not in capsys.readouterr().out


def _npz_of_objects() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.array([Boom()], dtype=object), y=[0])
    return out.getvalue()


def test_class_names_of_the_set_are_matched_to_the_models(tmp_path):
    np.savez(tmp_path / "a.npz", x=RGB, y=[0, 1, 0, 1, 0, 1], classes=["dog", "cat"])
    model = InputSpec(class_names=("cat", "dog"))
    assert read(tmp_path / "a.npz", model).labels.tolist() == [1, 0, 1, 0, 1, 0]
    with pytest.raises(DataError, match="unknown class 'dog'"):
        read(tmp_path / "a.npz", InputSpec(class_names=("cat", "eel")))


def test_odd_array_files_are_refused(tmp_path):
    np.savez(tmp_path / "scalar.npz", x=np.float32(1), y=[0])
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3, 32, 32), np.float32), y=np.zeros(0, int))
    np.savez(tmp_path / "ids.npz", x=RGB, y=np.arange(6) * 10**8)
    np.save(tmp_path / "renamed.npy", RGB)
    (tmp_path / "renamed.npy").rename(tmp_path / "renamed.npz")
    for name, message in (
        ("scalar", "no samples"),
        ("none", "no samples"),
        ("ids", "cannot be a class number"),
        ("renamed", "or not an .npz"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / f"{name}.npz", InputSpec(resolution=32, channels=3))


def test_sixteen_bit_pictures_are_scaled_and_empty_folders_passed_over(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "set" / "a" / "ramp.png")
    np.testing.assert_array_equal(read(tmp_path / "set").inputs[0, ..., 0], ramp >> 8)
    (tmp_path / "set" / "b").mkdir()
    samples = read(tmp_path / "set")
    assert samples.class_names == ("a",)
    assert any("1 folder without pictures passed over: b" in note for note in samples.notes)
    assert any("scaled from 0..65535 to 0..255" in note for note in samples.notes)


# --- splits ----------------------------------------------------------------------------------

AMOUNTS = st.one_of(
    st.integers(0, 20), st.floats(0, 0.3).map(lambda f: round(f, 2)), st.integers(1, 3).map("{}/class".format)
)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=60, max_size=120),
    amounts=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS),
    seed=st.integers(0, 9),
)
def test_splits_share_nothing_and_have_the_sizes_asked_for(labels, amounts, seed):
    samples = make_samples(np.zeros((len(labels), 1, 1), np.uint8), labels, list("abcd"))
    try:
        parts = split_samples(samples, *amounts, seed=seed)
    except DataError:
        return  # asked for more than there is, or for less than one sample
    ids = [set(p.ids.tolist()) for p in (parts.train, parts.val, parts.test)]
    assert sum(map(len, ids)) == len(set.union(*ids))
    present = len(set(labels))
    for part, asked in zip((parts.train, parts.val, parts.test), amounts, strict=True):
        if isinstance(asked, str):
            assert len(part) == int(asked[0]) * present
        else:
            assert len(part) == (asked if isinstance(asked, int) else round(asked * len(labels)))
        if len(part) >= present:  # stratified: no class more than a sample off its share
            for c in set(labels):
                share = len(part) * labels.count(c) / len(labels)
                assert isinstance(asked, str) or abs((part.labels == c).sum() - share) < 2


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=20, max_size=60))
def test_parts_may_use_every_sample(labels):
    samples = make_samples(np.zeros((len(labels), 1, 1), np.uint8), labels, list("abcde"))
    count = round(0.15 * len(labels))
    parts = split_samples(samples, len(labels) - 2 * count, 0.15, 0.15)
    assert len(parts.train) + len(parts.val) + len(parts.test) == len(labels)


def test_the_test_part_does_not_depend_on_the_other_amounts():
    samples = make_samples(np.zeros((100, 1, 1), np.uint8), np.arange(100) % 4)
    small, large = (split_samples(samples, train, 0.1, 0.2).test.ids for train in (0.1, "rest"))
    assert small.tolist() == large.tolist()
    other = split_samples(samples, 0.1, 0.1, 0.2, seed=1).test.ids
    assert other.tolist() != small.tolist()


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.integers(0, 7), min_size=30, max_size=80), seed=st.integers(0, 9))
def test_no_group_lies_in_two_parts(groups, seed):
    samples = make_samples(
        np.zeros((len(groups), 1, 1), np.uint8),
        np.zeros(len(groups), int),
        attributes={"subject": np.array(groups)},
    )
    if len(set(groups)) < 3:
        return
    parts = split_samples(samples, 0.4, 0.2, 0.2, seed=seed)
    assert parts.group_by == "subject"
    seen = [set(p.attributes["subject"].tolist()) for p in (parts.train, parts.val, parts.test)]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_too_large_amounts_are_refused():
    samples = make_samples(np.zeros((20, 1, 1), np.uint8), np.arange(20) % 2)
    with pytest.raises(DataError, match=r"train part \(30\) needs 30 samples, but 16 are left"):
        split_samples(samples, 30, 0.1, 0.1)
    with pytest.raises(DataError, match="would be empty"):
        split_samples(samples, 0.1, 0.01, 0.1)
    for wrong in ("many", "-1", "1.5"):
        with pytest.raises(DataError, match="not a valid amount"):
            split_samples(samples, wrong)


@pytest.mark.data
def test_real_sets_are_read(data_dir):
    cifar = read(data_dir / "cifar10" / "test.tar", InputSpec(class_names=CIFAR10_CLASSES, resolution=32))
    assert set(cifar.class_counts().values()) == {1000}
    watch = read(data_dir / "har" / "watch_windows.npz")
    assert watch.inputs.shape == (4677, 100, 6)
    parts = split_samples(watch, 0.3, 0.2, 0.2)
    assert parts.group_by == "subject"
    one = replace(watch, attributes={"series": watch.attributes["series"]})
    assert split_samples(one, 0.3, 0.2, 0.2).group_by == "series"
