"""CIFAR-10 and CIFAR-100 as published; one's own arrays are not taken for CIFAR-10-C."""

from __future__ import annotations

import pickle
import tarfile

import numpy as np
import pytest

from tbft.data import InputSpec, read
from tbft.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
FINE, COARSE = [0, 99, 7, 7], [0, 1, 1, 0]
NAMES = {"fine": [f"fine{i}" for i in range(100)], "coarse": ["animals", "things"]}


def write_cifar100(folder, binary=False, coarse_names=True):
    folder.mkdir()
    kinds = ("fine", "coarse") if coarse_names else ("fine",)
    for part in ("train", "test"):
        if binary:
            rows = np.hstack([np.array([COARSE, FINE], np.uint8).T, PIXELS])
            (folder / f"{part}.bin").write_bytes(rows.tobytes())
        else:
            rows = {b"data": PIXELS, b"fine_labels": FINE, b"coarse_labels": COARSE}
            (folder / part).write_bytes(pickle.dumps(rows, protocol=2))
    if binary:
        for kind in kinds:
            (folder / f"{kind}_label_names.txt").write_text("\n".join(NAMES[kind]) + "\n")
    else:
        meta = {f"{kind}_label_names".encode(): [n.encode() for n in NAMES[kind]] for kind in kinds}
        (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


@pytest.mark.parametrize("form", ["folder", "binary", "tar", "file", "binary file"])
def test_cifar100_has_fine_labels_and_coarse_ones_as_an_attribute(tmp_path, form):
    path = write_cifar100(tmp_path / "cifar-100", binary="binary" in form)
    if form == "tar":
        with tarfile.open(tmp_path / "cifar-100.tar.gz", "w:gz") as tar:
            tar.add(path, "cifar-100-python")
        path = tmp_path / "cifar-100.tar.gz"
    if "file" in form:
        path = path / ("test.bin" if "binary" in form else "test")
    samples = read(path)
    times = 1 if "file" in form else 2
    assert samples.labels.tolist() == FINE * times
    assert samples.class_names == tuple(NAMES["fine"])
    assert samples.attributes["coarse"].tolist() == ["animals", "things", "things", "animals"] * times
    test = samples.where({"part": "test"})
    assert len(test) == 4
    np.testing.assert_array_equal(test.inputs[1].transpose(2, 0, 1).reshape(-1), PIXELS[1])


def test_a_meta_without_coarse_names_gives_their_numbers(tmp_path):
    samples = read(write_cifar100(tmp_path / "set", coarse_names=False))
    assert samples.attributes["coarse"].tolist() == COARSE * 2


def test_cifar_labels_are_matched_by_name_and_absent_batches_said(tmp_path):
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        rows = {b"data": PIXELS, b"labels": [0, 1, 9, 9]}
        (tmp_path / name).write_bytes(pickle.dumps(rows, protocol=2))
    torch_names = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert read(tmp_path, InputSpec(class_names=torch_names)).labels[:4].tolist() == [0, 1, 9, 9]
    turned = read(tmp_path, InputSpec(class_names=torch_names[::-1]))
    assert turned.labels[:4].tolist() == [9, 8, 0, 0]
    assert any("without data_batch_3, data_batch_4, data_batch_5" in note for note in turned.notes)
    with pytest.raises(DataError, match="no such class"):
        read(tmp_path, InputSpec(class_names=tuple("abcdefghij")))


def test_batches_that_are_none_are_refused_by_name(tmp_path):
    folder = write_cifar100(tmp_path / "set")
    (folder / "train").write_bytes(pickle.dumps({b"data": PIXELS}, protocol=2))
    with pytest.raises(DataError, match=r"set: train is refused as a CIFAR batch: it has no 'coarse_labels'"):
        read(folder)
    (folder / "train").write_bytes(b"no pickle")
    with pytest.raises(DataError, match=r"set: train is refused"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "labels", "severities"),
    [
        ("images", np.arange(100) % 10, False),
        ("photos", np.tile([0, 1, 1, 0], 25), False),
        ("photos", np.tile(np.sort(np.arange(20) % 10), 5), False),
        ("fog", np.arange(100) % 10, False),
        ("fog", np.tile(np.random.default_rng(0).integers(0, 10, 20), 5), True),
        ("fog", np.random.default_rng(0).integers(0, 10, 100), False),
    ],
)
def test_severities_are_named_only_where_they_are_certain(tmp_path, name, labels, severities):
    np.save(tmp_path / f"{name}.npy", np.zeros((100, 4, 4, 3), np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    attributes = read(tmp_path).attributes
    assert ("severity" in attributes) == severities
    assert ("picture" in attributes) == severities
    assert ("corruption" in attributes) == (name == "fog")


def test_the_published_shape_is_certain_whatever_its_labels(tmp_path):
    np.save(tmp_path / "fog.npy", np.zeros((50_000, 1, 1, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(50_000) % 10)
    assert "severity" in read(tmp_path).attributes
