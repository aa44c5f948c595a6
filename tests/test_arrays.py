"""Files of arrays under whatever names, labels and ranges as people have them: read right, or refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import tbft
from tbft.data.forms import as_samples
from tbft.data.keys import split_part
from tbft.data.labels import parse_labels
from tbft.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])
WORDS = np.array(["cat", "dog", "emu"])[Y]


def save_npz(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def save_folder(path, **arrays):
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


def save_pt(path, **arrays):
    torch.save({k: torch.from_numpy(a) for k, a in arrays.items()}, path / "set.pt")
    return path / "set.pt"


def save_safetensors(path, **arrays):
    save_file({k: torch.from_numpy(a) for k, a in arrays.items()}, path / "set.safetensors")
    return path / "set.safetensors"


@pytest.mark.parametrize("save", [save_npz, save_folder, save_pt, save_safetensors])
@pytest.mark.parametrize("names", [("images", "labels"), ("X", "y"), ("image", "label"), ("data", "target")])
def test_usual_names_are_found_in_every_kind_of_file(tmp_path, save, names):
    samples = tbft.read(save(tmp_path, **dict(zip(names, (X, Y), strict=True))))
    np.testing.assert_array_equal(samples.inputs, X)
    assert samples.labels.tolist() == Y.tolist()


def test_arrays_without_names_pairs_of_tensors_and_single_files(tmp_path):
    np.savez(tmp_path / "plain.npz", X, Y)
    torch.save((torch.from_numpy(X), torch.from_numpy(Y)), tmp_path / "pair.pt")
    save_folder(tmp_path, x_test=X, y_test=Y[::-1], x_train=X[:4], y_train=Y[:4])
    for name in ("plain.npz", "pair.pt"):
        assert tbft.read(tmp_path / name).labels.tolist() == Y.tolist()
    assert tbft.read(tmp_path / "x_test.npy").labels.tolist() == Y[::-1].tolist()
    assert isinstance(tbft.read(tmp_path / "x_test.npy").inputs, np.memmap)
    (tmp_path / "readme.txt").touch()
    assert any("pair.pt, plain.npz, readme.txt" in note for note in tbft.read(tmp_path).notes)


@pytest.mark.parametrize(
    "names",
    ["x_{} y_{}", "{}_images {}_labels", "X{} y{}", "{}X {}y", "{}.data {}.target"],
)
def test_parts_in_the_names_become_an_attribute(tmp_path, names):
    arrays = {}
    for part, count in (("train", 4), ("test", 6)):
        arrays |= dict(zip(names.format(part, part).split(), (X[:count], Y[:count, None]), strict=True))
    samples = tbft.read(save_npz(tmp_path, **arrays))
    assert samples.attributes["part"].tolist() == ["train"] * 4 + ["test"] * 6
    assert len(tbft.read(tmp_path / "set.npz", where={"part": "test"})) == 6


@pytest.mark.parametrize("key", ["train", "contrast", "y", "labels", "tests_of_x", "train_test_x"])
def test_other_names_name_no_part(key):
    assert split_part(key) == ("", key)


def test_further_arrays_become_attributes_or_are_noted(tmp_path):
    path = save_npz(
        tmp_path,
        x_train=X, y_train=Y, subject_train=Y % 2, x_test=X, y_test=Y, subject_test=Y % 2,
        mean=np.zeros(3), version=np.float64(2), class_names=np.array([b"cat", b"dog", b"emu"]),
    )  # fmt: skip
    samples = tbft.read(path)
    assert samples.attributes["subject"].tolist() == [*(Y % 2), *(Y % 2)]
    assert samples.class_names == ("cat", "dog", "emu")
    assert any("mean, version" in note for note in samples.notes)


def test_arrays_of_objects_are_named_with_the_remedy(tmp_path):
    path = save_npz(tmp_path, x=X, y=Y, subject=np.array([None] * 6))
    samples = tbft.read(path)
    assert len(samples) == 6
    assert any("subject" in note and "astype" in note for note in samples.notes)
    with pytest.raises(DataError, match=r"'y' \(labels\) holds Python objects.*y\.astype\(str\)"):
        tbft.read(save_npz(tmp_path, x=X, y=WORDS.astype(object)))


def test_keys_say_which_arrays_are_meant(tmp_path):
    path = save_npz(tmp_path, images=X, features=X[:, 0, 0].astype("f4"), fine=Y, coarse=Y // 2)
    with pytest.raises(DataError, match=r"may be images or features; say which: --keys"):
        tbft.read(path)
    spec = tbft.InputSpec(keys={"inputs": "features", "labels": "fine"})
    assert tbft.read(path, spec).inputs.shape == (6, 3)
    with pytest.raises(DataError, match="unknown key 'fines': did you mean 'fine'"):
        tbft.read(path, tbft.InputSpec(keys={"inputs": "images", "labels": "fines"}))


@pytest.mark.parametrize("content", ["<html>", "", None])
@pytest.mark.parametrize("suffix", ["npz", "npy", "pt", "safetensors"])
def test_damaged_and_foreign_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"images.{suffix}"
    if content is None:
        torch.save(torch.nn.Linear(2, 2), path)  # holds more than tensors
    else:
        path.write_text(content)
    np.save(tmp_path / "labels.npy", Y)
    with pytest.raises(DataError, match=path.name):
        tbft.read(path)


LABELS = {
    "a column": Y[:, None],
    "one-hot rows": np.eye(3)[Y],
    "boolean one-hot rows": np.eye(3, dtype=bool)[Y],
    "whole floats": Y.astype(float),
    "numbers as text": Y.astype(str),
    "numbers as bytes": Y.astype("S"),
    "text of whole floats": np.array(["0.0", "1.0", "2.0"])[Y],
    "objects": Y.astype(object),
    "small integers": Y.astype(np.int8),
    "unsigned integers": Y.astype(np.uint64),
    "a list": Y.tolist(),
    "a tensor": torch.from_numpy(Y),
    "a column of half floats": torch.from_numpy(Y)[:, None].bfloat16(),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_in_every_form_are_the_same_numbers(form):
    assert tbft.make_samples(X, LABELS[form]).labels.tolist() == Y.tolist()


@pytest.mark.parametrize("words", [WORDS, WORDS.astype("S"), WORDS.tolist(), WORDS.astype(object)])
def test_words_are_matched_by_name(words):
    assert tbft.make_samples(X, words).class_names == ("cat", "dog", "emu")
    spec = tbft.InputSpec(class_names=("emu", "dog", "cat", "fox"))
    samples = tbft.make_samples(X, words, spec=spec)
    assert samples.labels.tolist() == (2 - Y).tolist()
    with pytest.raises(DataError, match="no such class: unknown class 'emu'"):
        tbft.make_samples(X, words, spec=tbft.InputSpec(class_names=("cat", "dog")))


def test_names_are_compared_as_they_look():
    spec = tbft.InputSpec(class_names=("café", "bar"))
    assert tbft.make_samples(X[:2], ["cafe\u0301", " bar "], spec=spec).labels.tolist() == [0, 1]
    assert any("differ only in case" in note for note in tbft.make_samples(X[:2], ["Cat", "cat"]).notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, None], r"1 of 3 labels are missing .*sample 2"),
        ([0, float("nan"), 1], r"1 of 3 labels are missing \(None or NaN\)"),
        (np.array([0, np.nan, 1]), r"missing \(NaN\), the first is that of sample 1"),
        (["a", "", "nan"], r"2 of 3 labels are missing"),
        ([0, 0.9, 1], r"1 of 3 labels are not whole numbers, the first is 0.9 of sample 1"),
        ([[0.2, 0.8]] * 3, r"labels.argmax\(1\)"),
        ([[1, 1], [1, 0], [0, 0]], "sample 0 has 2 classes"),
        ([[1, 2, 3]] * 3, "shape"),
        ([-1, 1, 1], r"-1 and 1; number the classes from 0: \(labels \+ 1\) // 2"),
        ([0, 1, -1], "sample 2 has label -1"),
        (np.zeros(3, dtype="datetime64[s]"), "class numbers or names"),
        ([{}, {}, {}], "not dict"),
        ([[0], [1, 2], [0]], "mixed shapes"),
        ([0, 1, 123456], "cannot be a class number"),
        (np.eye(4)[:3], "one-hot rows of 4 classes, but there are 2: a, b"),
        (7, "one label per sample"),
        ("abcd", "one label per sample"),
    ],
)
def test_labels_that_say_no_class_are_refused(labels, message):
    names = ["a", "b"] if "a, b" in message else None
    with pytest.raises(DataError, match=message):
        tbft.make_samples(X[:3], labels, names)


def test_labels_numbered_from_one():
    spec = tbft.InputSpec(class_names=("walk", "sit", "lie"))
    with pytest.raises(DataError, match=r"seem to be numbered from 1.*labels_from=1"):
        tbft.make_samples(X, Y + 1, spec=spec)
    shifted = tbft.make_samples(
        X, Y + 1, spec=tbft.InputSpec(class_names=("walk", "sit", "lie"), labels_from=1)
    )
    assert shifted.labels.tolist() == Y.tolist()
    assert any("1 to 3 are read as classes 0 to 2" in note for note in shifted.notes)
    absent = tbft.make_samples(X[:2], [1, 2], spec=spec)
    assert any("class 0 has no sample" in note for note in absent.notes)
    by_name = tbft.make_samples(X, Y + 1, spec=tbft.InputSpec(class_names=("1", "2", "3")))
    assert by_name.labels.tolist() == Y.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.permutations(["a", "b", "c", "d", "e", "f"]))
def test_words_and_numbers_mean_the_same_class_in_any_order(numbers, names):
    words = parse_labels([names[i] for i in numbers], "set", names)
    assert words.indices.tolist() == parse_labels(numbers, "set", names).indices.tolist() == numbers


RAMP = np.linspace(0, 1, 12 * 12 * 3).reshape(12, 12, 3)


def seen(inputs, **spec):
    """What the model gets of pictures with their channels last."""
    samples = tbft.make_samples(inputs, np.zeros(len(inputs), int), spec=tbft.InputSpec(**spec))
    return samples.batch(slice(0, len(inputs)))[0].numpy(), samples


@pytest.mark.parametrize(
    ("inputs", "spec"),
    [
        ((RAMP * 255).astype(np.uint8), {}),
        ((RAMP * 65535).astype(np.uint16), {}),
        ((RAMP * 65535).astype(np.int32), {}),
        ((RAMP * 255).astype(np.int64), {}),
        ((RAMP * 255).astype(np.uint16), {}),
        (np.rint(RAMP * 255), {}),
        (RAMP, {}),
        (RAMP.astype(np.float16), {}),
        (RAMP * 255, {"range": "0-255"}),
        ((RAMP * 4095).astype(np.uint16), {"range": "0-4095"}),
        (RAMP * 16, {"range": "0-16"}),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_pixels_of_every_range_reach_the_model_in_zero_to_one(inputs, spec, first):
    inputs = np.stack([inputs] * 2)
    x, _ = seen(inputs.transpose(0, 3, 1, 2) if first else inputs, **spec)
    assert x.shape == (2, 3, 12, 12)
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), RAMP, atol=1 / 200)


def test_what_was_assumed_of_a_range_is_noted():
    for inputs, note in (
        ((RAMP * 4095).astype(np.uint16), "highest value is 4095"),
        ((RAMP * 255).astype(np.int64), "read as 8 bits"),
        (np.rint(RAMP * 255), "read as pixels, 0 to 255"),
        (RAMP > 0.5, "white and black"),
        ((RAMP > 0.5).astype(np.uint8), "black and white"),
        (RAMP * 4 - 2, "taken as normalized already"),
    ):
        _, samples = seen(np.stack([inputs] * 2))
        assert any(note in said for said in samples.notes), note


@pytest.mark.parametrize("inputs", [RAMP > 0.5, (RAMP > 0.5).astype(np.uint8), (RAMP > 0.5).astype(np.int64)])
def test_masks_reach_the_model_as_zero_and_one(inputs):
    x, _ = seen(np.stack([inputs] * 2))
    np.testing.assert_array_equal(x[0].transpose(1, 2, 0), RAMP > 0.5)


@pytest.mark.parametrize(
    ("inputs", "spec", "message"),
    [
        (RAMP * 254.6, {}, r"--range 0-255 or divide by 255.*--range normalized"),
        (np.rint(RAMP * 65535), {}, "divide by 65535"),
        (RAMP * 3, {}, r"--range 0-N with the highest value that a pixel can have \(0-3\?\)"),
        (RAMP * 4 - 2, {"normalizes": True}, "normalized already, and this model normalizes"),
        (RAMP * 254.6, {"normalizes": True}, "divide by 255$"),
        (RAMP * 2000 - 1000, {}, "neither pixels nor normalized"),
        ((RAMP * 2000 - 1000).astype(np.int16), {}, "neither of 8 nor of 16 bits"),
        ((RAMP * 10**6).astype(np.int32), {}, "neither of 8 nor of 16 bits"),
        ((RAMP * 16).astype(np.int32), {}, "0-16"),
        (RAMP * 300, {"range": "0-255"}, "do not lie in 0-255"),
        ((RAMP * 255).astype(np.uint8), {"range": "normalized"}, "mean='0-255'"),
        (RAMP, {"range": "normalized", "normalizes": True}, "leave --range out"),
    ],
)
def test_ambiguous_ranges_are_refused_with_the_advice_that_fits(inputs, spec, message):
    with pytest.raises(DataError, match=message):
        seen(np.stack([inputs] * 2), **spec)


@pytest.mark.parametrize("dtype", [float, np.float32, np.int64])
def test_digits_without_an_axis_of_channels_are_pixels_too(dtype):
    digits = (np.stack([RAMP[..., 0]] * 3) * 255).astype(np.uint8).astype(dtype)
    x, _ = seen(digits)
    np.testing.assert_allclose(x[:, 0] * 255, digits, rtol=1e-5)
    x, samples = seen(digits.reshape(3, -1))
    assert x.max() > 200
    assert "given to the model as they are (--range 0-255 if they are pixels)" in samples.notes[0]
    x, _ = seen(digits.reshape(3, -1), range="0-255")
    assert x.max() <= 1


def test_gray_pictures_get_three_channels_for_a_model_that_takes_them():
    gray = (RAMP[..., 0] * 255).astype(np.uint8)
    for inputs in (gray, gray[..., None], RAMP[None, ..., 0]):
        x, samples = seen(np.stack([inputs] * 2), channels=3, resolution=12)
        assert x.shape == (2, 3, 12, 12)
        np.testing.assert_allclose(x[0, 2], RAMP[..., 0], atol=1 / 200)
        assert "gray pictures got three equal channels" in samples.notes
    with pytest.raises(DataError, match=r"takes 1 channels.*image\.convert\('L'\)"):
        seen(np.stack([(RAMP * 255).astype(np.uint8)] * 2), channels=1)


def test_spectra_are_not_pictures():
    spectra = np.random.default_rng(0).random((3, 1, 64, 100)) * -80
    x, _ = seen(spectra)
    np.testing.assert_allclose(x, spectra, rtol=1e-6)


def test_masked_and_foreign_arrays():
    class Frame:
        def __init__(self, values):
            self.values = values

        def __len__(self):
            return len(self.values)

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.values)

    samples = as_samples((Frame(np.ones((3, 2))), Frame(np.array(["a", "b", "a"], dtype=object))))
    assert samples.class_counts() == {"a": 2, "b": 1}
    masked = np.ma.masked_array(np.ones((3, 2)), mask=np.eye(3, 2))
    with pytest.raises(DataError, match="some inputs are masked"):
        as_samples((masked, [0, 1, 0]))
    with pytest.raises(DataError, match=r"1 of 3 labels are missing \(masked\).*sample 1"):
        as_samples((np.ones((3, 2)), np.ma.masked_array([0, 1, 0], mask=[0, 1, 0])))


def test_windows_are_given_to_the_model_as_they_are():
    windows = np.random.default_rng(0).normal(9.8, 40, (4, 6, 100))
    x, samples = seen(windows)
    np.testing.assert_allclose(x, windows, rtol=1e-6)
    assert samples.notes == ()
    _, samples = seen(windows.astype(np.int16))
    assert "given to the model as they are" in samples.notes[0]


@pytest.mark.parametrize(
    ("value", "message"), [(1e39, "too large for float32"), (-1e300, "too large"), (np.inf, "NaN or inf")]
)
def test_values_beyond_float32_are_named_by_sample_without_a_warning(value, message):
    windows = np.zeros((4, 6, 100))
    windows[2, 0, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=f"1 of 4 samples.*{message}.*sample 2"):
            seen(windows)


def test_true_and_false_in_any_spelling_are_two_classes():
    samples = tbft.make_samples(X, ["True", "FALSE", "true", "false", "TRUE", "False"])
    assert (samples.class_names, samples.labels.tolist()) == (("False", "True"), [1, 0] * 3)


def test_words_for_no_label_are_counted_and_classes_that_may_be_one_are_named():
    notes = tbft.make_samples(X, ["NA", "red fox", "red_fox", "NA", "?", "emu"]).notes
    assert any("no label: NA (2), ? (1)" in note for note in notes)
    assert any("kept apart: red fox, red_fox" in note for note in notes)
    assert not any("no label" in note for note in tbft.make_samples(X[:2], ["no", "Namibia"]).notes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float16])
def test_floats_that_numpy_has_not_are_read(tmp_path, dtype):
    floats = torch.tensor([[0.5, -1.0, 2.0]] * 6)
    save_file({"x": floats.to(dtype), "y": torch.from_numpy(Y)}, tmp_path / "set.safetensors")
    samples = tbft.read(tmp_path / "set.safetensors")
    np.testing.assert_array_equal(samples.inputs, floats.numpy())


def test_a_file_of_torch_may_hold_items_or_parts_by_name(tmp_path):
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    torch.save([(one, int(label)) for one, label in zip(x[:2], y[:2], strict=True)], tmp_path / "set.PT")
    assert tbft.read(tmp_path / "set.PT").labels.tolist() == [0, 1]
    torch.save({"train": {"x": x, "y": y}, "test": {"x": x, "y": y}}, tmp_path / "set.pt")
    assert tbft.read(tmp_path / "set.pt").attributes["part"].tolist() == ["train"] * 6 + ["test"] * 6
    for held in (((x, y), (x, y)), {"x": [torch.zeros(2), torch.zeros(3)], "y": [0, 1]}):
        torch.save(held, tmp_path / "set.pt")
        with pytest.raises(DataError, match=r"save a dictionary.*x_train|mixed shapes"):
            tbft.read(tmp_path / "set.pt")
    with pytest.raises(DataError, match="label 9223372036854775808 cannot be a class number"):
        tbft.make_samples(X, np.array([0, 1, 2**63, 0, 1, 1], dtype=np.uint64))
