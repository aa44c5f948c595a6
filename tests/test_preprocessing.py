"""What stands between stored samples and a model: sizes, channel order, normalization; and how it travels."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tbft
from tbft.data.forms import as_samples
from tbft.data.samples import digest
from tbft.data.spec import NORMALIZATIONS, InputSpec, Preprocessing
from tbft.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 1]
MEAN, STD = (torch.tensor(v)[:, None, None] for v in NORMALIZATIONS["imagenet"])


def batch(inputs, **spec):
    return tbft.make_samples(inputs, LABELS, spec=InputSpec(**spec)).batch(slice(0, 4))[0]


def test_pictures_are_normalized_after_scaling_and_stay_uint8():
    plain = batch(PICTURES)
    samples = tbft.make_samples(PICTURES, LABELS, spec=InputSpec(mean="imagenet"))
    assert samples.inputs.dtype == np.uint8
    torch.testing.assert_close(samples.batch(slice(0, 4))[0], (plain - MEAN) / STD)
    torch.testing.assert_close(
        batch(PICTURES, mean=NORMALIZATIONS["imagenet"][0], std="imagenet"), (plain - MEAN) / STD
    )
    torch.testing.assert_close(batch(PICTURES, mean="0.5", std="0.25"), (plain - 0.5) / 0.25)
    torch.testing.assert_close(batch(PICTURES, mean="0-255"), plain * 255)
    torch.testing.assert_close(batch(plain, mean="imagenet"), (plain - MEAN) / STD)


def test_blue_first_turns_pictures_and_named_normalizations_but_not_numbers():
    plain = batch(PICTURES).flip(1)
    torch.testing.assert_close(batch(PICTURES, channel_order="BGR"), plain)
    torch.testing.assert_close(
        batch(PICTURES, channel_order="BGR", mean="imagenet"), (plain - MEAN.flip(0)) / STD.flip(0)
    )
    numbers = {"mean": NORMALIZATIONS["imagenet"][0], "std": NORMALIZATIONS["imagenet"][1]}
    torch.testing.assert_close(batch(PICTURES, channel_order="BGR", **numbers), (plain - MEAN) / STD)


@pytest.mark.parametrize("last", [False, True])
def test_windows_are_normalized_per_channel(last):
    windows = np.random.default_rng(0).normal(5, 3, (4, 2, 50)).astype(np.float32)
    wanted = (windows - np.array([[5.0], [4.0]])) / np.array([[3.0], [2.0]])
    turned = (lambda a: a.swapaxes(1, 2)) if last else (lambda a: a)
    x = batch(turned(windows), mean=(5.0, 4.0), std=(3.0, 2.0))
    np.testing.assert_allclose(x, turned(wanted), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"mean and std have 3 numbers, which no axis of inputs of shape"):
        batch(windows, mean=(1.0, 2.0, 3.0), std="0.5")


def test_normalized_values_are_not_normalized_again():
    given = (batch(PICTURES) - MEAN) / STD
    samples = tbft.make_samples(given, LABELS, spec=InputSpec(mean="imagenet"))
    torch.testing.assert_close(samples.batch(slice(0, 4))[0], given)
    assert any("mean and std are not applied again" in note for note in samples.notes)
    assert samples.preprocessing == InputSpec(mean="imagenet").preprocessing


@pytest.mark.parametrize(
    ("spec", "box"),
    [
        ({"resolution": 10}, (2, 0, 12, 10)),
        ({"resolution": 10, "resize": 16}, (7, 3, 17, 13)),
        ({"resolution": 20, "resize": 20}, (5, 0, 25, 20)),
    ],
)
def test_the_shorter_side_is_scaled_and_the_center_cut_out(tmp_path, spec, box):
    side = spec.get("resize", spec["resolution"])
    path = tmp_path / "set" / "cat" / "0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(PICTURES[0]).save(path)
    wanted = np.asarray(
        Image.fromarray(PICTURES[0]).resize((side * 30 // 20, side), Image.Resampling.BILINEAR).crop(box)
    )
    forms = [(PICTURES[:1], [0]), path.parents[1], [(Image.fromarray(PICTURES[0]), 0)]]
    for form in forms:
        samples = as_samples(form, InputSpec(**spec))
        np.testing.assert_array_equal(samples.inputs[0], wanted)
        assert samples.preprocessing == InputSpec(**spec).preprocessing
    floats = as_samples((torch.from_numpy(PICTURES[:1]).permute(0, 3, 1, 2) / 255, [0]), InputSpec(**spec))
    np.testing.assert_allclose(floats.inputs[0].transpose(1, 2, 0) * 255, wanted, atol=1)


def test_without_a_crop_both_sides_are_scaled():
    samples = as_samples((PICTURES, LABELS), InputSpec(resolution=10, crop="none"))
    wanted = Image.fromarray(PICTURES[1]).resize((10, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(samples.inputs[1], np.asarray(wanted))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": "imagnet"}, "unknown normalization 'imagnet': did you mean 'imagenet'.*or numbers"),
        ({"mean": 0.5}, "mean and std go together"),
        ({"mean": "0.5,x", "std": 1}, "unknown normalization"),
        ({"mean": "0.5", "std": "0"}, "std has to be positive"),
        ({"mean": (0.5, float("nan"), 0), "std": 1}, "finite"),
        ({"mean": (0.5, 0.5), "std": 1, "channels": 3}, "has 2 numbers, the model takes 3 channels"),
        ({"mean": "imagenet", "normalizes": True}, "normalizes its inputs itself"),
        ({"resize": 256}, "resize needs a resolution"),
        ({"resize": 200, "resolution": 224}, "it is less than 224"),
        ({"resize": 256, "resolution": 224, "crop": "none"}, "do not go together"),
        ({"resolution": 0}, "whole number of px"),
        ({"resolution": "224"}, "whole number of px"),
        ({"crop": "middle"}, "unknown crop 'middle'"),
        ({"channel_order": "RBG"}, "unknown channel order 'RBG'"),
        ({"range": "0-"}, "not a valid range"),
        ({"range": "1-255"}, "not a valid range"),
        ({"labels_from": 2}, "from 0 or from 1"),
        ({"keys": {"input": "X"}}, "unknown key 'input': did you mean 'inputs'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(fields, message):
    with pytest.raises(DataError, match=message):
        InputSpec(**fields)


numbers = st.lists(st.floats(0.01, 10), min_size=1, max_size=1) | st.lists(
    st.floats(0.01, 10), min_size=3, max_size=3
)


@st.composite
def preprocessings(draw):
    resolution = draw(st.none() | st.integers(1, 500))
    crop = draw(st.sampled_from(("center", "none")))
    resize = draw(st.none() | st.integers(resolution, 600)) if resolution and crop == "center" else None
    mean = draw(numbers)
    std = draw(numbers.filter(lambda v: len(v) == len(mean)))
    order = draw(st.sampled_from(("RGB", "BGR")))
    return Preprocessing(tuple(mean), tuple(std), resolution, resize, crop, order)


@settings(max_examples=60, deadline=None)
@given(preprocessings(), preprocessings())
def test_preprocessing_travels_as_json_and_says_what_differs(one, other):
    again = Preprocessing.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    assert one.differs_from(again) == ""
    assert bool(one.differs_from(other)) == bool(other.differs_from(one))
    assert InputSpec(channels=3, **asdict(one)).preprocessing == one


def test_differences_are_named_and_spellings_are_none():
    one = InputSpec(mean="imagenet", resolution=224, resize=256).preprocessing
    told = one.differs_from(InputSpec(mean=0.5, std=0.5, resolution=224, channel_order="BGR").preprocessing)
    assert told == (
        "mean is 0.485, 0.456, 0.406 here and 0.5 there, std is 0.229, 0.224, 0.225 here and 0.5 there, "
        "resize is 256 here and None there, channel_order is RGB here and BGR there"
    )
    assert not Preprocessing((0.5,), (0.5,), 32, 32).differs_from(Preprocessing((0.5,) * 3, (0.5,) * 3, 32))
    assert (
        str(one)
        == "shorter side 256 px, center crop, 224 px; mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225"
    )
    with pytest.raises(DataError, match="unknown key 'means': did you mean 'mean'"):
        Preprocessing.from_json({"means": [0.5]})


def test_what_is_left_open_is_as_it_was_when_it_was_stored():
    stored = InputSpec(mean="imagenet", resolution=224, resize=256, channel_order="BGR").preprocessing
    for own in (
        InputSpec(),
        InputSpec(resolution=224),
        InputSpec(mean="imagenet"),
        InputSpec(resize=256, resolution=224),
    ):
        assert own.completed_by(stored.to_json()).preprocessing == stored
    for own, message in (
        (InputSpec(mean="half"), "not that of the source card: mean is 0.5 here and 0.406"),
        (InputSpec(resolution=96), "resolution is 96 here and 224 there"),
        (InputSpec(normalizes=True), "normalizes its inputs itself"),
    ):
        with pytest.raises(DataError, match=message):
            own.completed_by(stored.to_json())
    own = InputSpec(resolution=32, normalizes=True)
    assert own.completed_by(Preprocessing(resolution=32).to_json()).resolution == 32
    partly = InputSpec(mean="half").completed_by({"resolution": 32, "resize": None, "crop": "none"})
    assert partly.preprocessing == Preprocessing((0.5,), (0.5,), 32, None, "none")


def test_samples_that_are_there_are_fitted_once_and_never_twice():
    spec = InputSpec(resolution=10, mean="imagenet")
    plain = tbft.make_samples(PICTURES, LABELS)
    fitted = as_samples(plain, spec)
    assert fitted.inputs.shape == (4, 10, 10, 3)
    assert as_samples(fitted, spec) is fitted
    assert digest(fitted) != digest(replace(fitted, preprocessing=Preprocessing(resolution=10)))
    with pytest.raises(DataError, match="not that of samples as it was read: mean is"):
        as_samples(fitted, InputSpec(resolution=10, mean="half"))
