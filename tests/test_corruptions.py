"""Corruptions: against the official script's results, and what every one of them has to hold."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from tbft.data import Samples, make_samples
from tbft.errors import DataError, MissingExtraError
from tbft.scenarios import apply_drift, corruptions, drifts
from tbft.scenarios.corruptions import filters, weather
from tbft.scenarios.corruptions.blur import disk
from tbft.scenarios.corruptions.liquid import canny, distance_to, equalized

Array = npt.NDArray[Any]

# Corruption -> the largest mean absolute difference from the official results, over all pictures and for
# the worst one, in gray levels. Besides, at least 99.99 % of the values are within one level. What is not
# equal is a value that lies on a whole gray level and is truncated to the one or the other side of it.
TOLERANCES = {
    "gaussian_noise": (0.001, 0.01),
    "shot_noise": (0.001, 0.01),
    "defocus_blur": (0.02, 0.1),
    "glass_blur": (0.005, 0.1),
    "motion_blur": (0.001, 0.01),
    "zoom_blur": (0.005, 0.1),
    "snow": (0.001, 0.01),
    "frost": (0.001, 0.01),  # other JPEG decoders may need more
    "fog": (0.001, 0.01),
    "brightness": (0.05, 0.1),
    "contrast": (0.001, 0.01),
    "elastic_transform": (0.005, 0.01),
    "pixelate": (0.001, 0.01),
    "jpeg_compression": (0.001, 0.01),  # other JPEG libraries may need more
    "speckle_noise": (0.001, 0.01),
    "gaussian_blur": (0.005, 0.1),
    "spatter": (0.005, 0.05),
    "saturate": (0.05, 0.15),
}
#: The reference's impulses come from a generator without a seed, so only their distribution is compared.
IMPULSES = {1: 0.01, 3: 0.03, 5: 0.07}
NAMES = sorted([*TOLERANCES, "impulse_noise"])


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> dict[str, Array]:
    with np.load(data_dir / "cifar10" / "corruption_reference.npz") as arrays:
        return dict(arrays)


def pictures(*shape: int) -> Array:
    """Smooth pictures with all hues and some noise."""
    n, h, w, c = shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:h, :w] / max(h, w)
    phase = rng.uniform(0, 7, (n, 1, 1, c))
    waves = 120 + 110 * np.sin(7 * x[..., None] + 5 * y[..., None] + phase)
    return (waves + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


def corrupted(name: str, x: Array, severity: int, first: int = 0) -> Array:
    generators = (np.random.default_rng([7, first + i]) for i in range(len(x)))
    out: Array = getattr(corruptions, name)(x, severity, generators)
    return out


def legacy(name: str, x: Array, severity: int) -> Array:
    """All pictures draw from one legacy stream in turn, as in the official script."""
    out: Array = getattr(corruptions, name)(x, severity, itertools.repeat(np.random.RandomState(0)))
    return out


def test_all_nineteen_are_registered() -> None:
    assert sorted(corruptions.__all__) == NAMES
    registered = {drift.name: drift for drift in drifts()}
    for name in NAMES:
        assert registered[name].level == "input"
        assert registered[name].examples == tuple(f"{name}:{s}" for s in range(1, 6))
        assert registered[name].summary
        assert getattr(corruptions, name).__doc__


@pytest.mark.data
@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", sorted(TOLERANCES))
def test_equals_the_official_script(reference: dict[str, Array], name: str, severity: int) -> None:
    ours = legacy(name, reference["clean"], severity)
    difference = np.abs(ours.astype(int) - reference[f"{name}_{severity}"])
    mean, worst = TOLERANCES[name]
    assert difference.mean() <= mean
    assert difference.mean(axis=(1, 2, 3)).max() <= worst
    assert (difference <= 1).mean() >= 0.9999


@pytest.mark.data
@pytest.mark.parametrize(("severity", "share"), IMPULSES.items())
def test_impulses_have_the_official_distribution(
    reference: dict[str, Array], severity: int, share: float
) -> None:
    clean = reference["clean"]
    for result in (legacy("impulse_noise", clean, severity), reference[f"impulse_noise_{severity}"]):
        inside = (clean > 0) & (clean < 255)
        changed = (result != clean) & inside
        tolerance = 4 * np.sqrt(share / inside.sum())
        assert changed.sum() / inside.sum() == pytest.approx(share, abs=tolerance)
        assert set(np.unique(result[changed])) == {0, 255}
        assert (result[changed] == 255).mean() == pytest.approx(0.5, abs=2 / np.sqrt(changed.sum()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape", [(2, 32, 32, 3), (2, 28, 28, 1), (2, 5, 7, 3), (1, 64, 90, 3), (2, 65, 90, 3), (1, 97, 70, 1)]
)
def test_keeps_shape_and_input(name: str, shape: tuple[int, ...]) -> None:
    x = pictures(*shape)
    before = x.copy()
    for severity in (1, 4, 5):
        out = corrupted(name, x, severity)
        assert out.shape == shape
        assert out.dtype == np.uint8
        assert np.array_equal(x, before)
        assert np.array_equal(out, corrupted(name, x, severity))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.filterwarnings("error")
def test_flat_pictures_pass_without_a_warning(name: str, level: int) -> None:
    for severity in (1, 3, 5):
        corrupted(name, np.full((2, 32, 32, 3), level, np.uint8), severity)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [3, 5])
def test_a_picture_depends_on_its_own_generator_only(name: str, severity: int) -> None:
    x = pictures(300, 32, 32, 3)  # more than are worked on at a time
    out = corrupted(name, x, severity)
    for i in (0, 131, 299):
        assert np.array_equal(out[i : i + 1], corrupted(name, x[i : i + 1], severity, first=i))


def test_as_drifts_of_samples() -> None:
    samples: Samples = make_samples(pictures(4, 32, 32, 3), [0, 1, 0, 1])
    drifted = apply_drift(samples, "fog:3", seed=1)
    assert not np.array_equal(drifted.inputs, samples.inputs)
    part = apply_drift(samples.subset([2, 0]), "fog:3", seed=1)
    assert np.array_equal(part.inputs, drifted.inputs[[2, 0]])


def test_constants_change_above_64_pixels() -> None:
    for side, kept in ((64, 0.4), (65, 0.2)):
        x = pictures(1, side, 100, 3)
        assert corrupted("contrast", x, 3).std() == pytest.approx(kept * x.std(), rel=0.05)


@pytest.mark.parametrize("name", ["frost", "saturate", "snow", "spatter"])
def test_gray_is_the_luminance_of_color(name: str) -> None:
    x = pictures(2, 32, 32, 1)
    color = corrupted(name, np.repeat(x, 3, axis=-1), 3)
    luminance = color @ np.array([0.299, 0.587, 0.114])
    assert np.abs(corrupted(name, x, 3)[..., 0] - luminance).max() <= 0.51


def test_draws_of_gaussian_noise_are_one_block_of_floats() -> None:
    x = pictures(3, 32, 32, 3)
    noise = [np.random.default_rng([7, i]).standard_normal((32, 32, 3), dtype=np.float32) for i in range(3)]
    expected = np.clip(x.astype(np.float32) / np.float32(255) + 0.04 * np.stack(noise), 0, 1) * 255
    assert np.array_equal(corrupted("gaussian_noise", x, 1), expected.astype(np.uint8))


def test_zoom_blur_is_the_mean_of_scipys_zooms() -> None:
    x = pictures(1, 96, 96, 3)
    unit = x[0] / 255
    total = unit.copy()
    factors = np.arange(1, 1.31, 0.03)
    for factor in factors:
        kept = int(np.ceil(96 / factor))
        start = (96 - kept) // 2
        large = ndimage.zoom(unit[start : start + kept, start : start + kept], (factor, factor, 1), order=1)
        trim = (len(large) - 96) // 2
        total += large[trim : trim + 96, trim : trim + 96]
    expected = total / (len(factors) + 1) * 255
    assert np.abs(corrupted("zoom_blur", x, 5)[0] - (expected - 0.5)).max() <= 0.51


def test_glass_blur_copies_pixels_in_the_official_order() -> None:
    x, rng, reach = pictures(2, 70, 66, 3), np.random.RandomState(0), 2
    out = legacy("glass_blur", x, 2)
    for picture, result in zip(x, out, strict=True):
        shuffled = (ndimage.gaussian_filter(picture / 255, (0.9, 0.9, 0), mode="nearest") * 255).astype(
            np.uint8
        )
        for row in range(70 - reach, reach, -1):
            for column in range(66 - reach, reach, -1):
                right, down = rng.randint(-reach, reach, size=(2,))
                shuffled[row, column] = shuffled[row + down, column + right]
        expected = ndimage.gaussian_filter(shuffled / 255, (0.9, 0.9, 0), mode="nearest") * 255
        assert np.abs(result - (expected - 0.5)).max() <= 0.51


def test_motion_path_and_kernel() -> None:
    assert filters.motion_kernel(6, 1).shape == (13,)
    assert filters.motion_kernel(6, 1).sum() == pytest.approx(1)
    assert filters.motion_path(4, 0).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert filters.motion_path(4, -90).tolist() == [[0, 0], [-1, 0], [-2, 0], [-3, 0]]
    # Halves of a pixel go towards the smaller number.
    assert filters.motion_path(3, 30)[1].tolist() == [0, 1]
    flat = np.full((2, 9, 11, 3), 77, np.uint8)
    assert np.array_equal(filters.motion_blur(flat, 6, 2.0, [10, -130]), flat)


def test_plasma_fills_zero_to_one() -> None:
    heights = weather.plasma(32, 2, iter([np.random.default_rng(i) for i in range(3)]))
    assert heights.shape == (3, 32, 32)
    assert heights.min(axis=(1, 2)).tolist() == [0, 0, 0]
    assert heights.max(axis=(1, 2)).tolist() == [1, 1, 1]


def test_parts_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (3, 60, 47)), (0, 1.5, 1.5))
    planes = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    edges = canny(planes, 50, 150)
    distances = distance_to(edges)
    flattened = equalized(planes // 9)
    for plane, edge, distance, flat in zip(planes, edges, distances, flattened, strict=True):
        assert np.array_equal(edge, cv2.Canny(plane, 50, 150) > 0)
        there = cv2.distanceTransform((255 * ~edge).astype(np.uint8), cv2.DIST_L2, 5)
        assert np.abs(np.minimum(distance, 20) - np.minimum(there, 20)).max() < 1e-3
        assert np.array_equal(flat, cv2.equalizeHist(plane // 9))
    picture = pictures(1, 40, 30, 3).astype(np.float32)
    for radius, sigma in ((0.5, 0.6), (1.5, 0.1), (8, 0.5), (10, 0.5)):
        kernel = disk(radius, sigma)
        if radius < 8:  # larger ones touch the border of their array, which the official smoothing mirrors
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
        there = cv2.filter2D(picture[0], -1, kernel)
        assert np.abs(filters.correlate(picture, kernel)[0] - there).max() < 1e-2


def test_fewer_generators_than_pictures() -> None:
    with pytest.raises(ValueError, match="fewer generators"):
        corruptions.gaussian_noise(pictures(2, 8, 8, 3), 1, [np.random.default_rng(0)])


@pytest.mark.parametrize("name", ["frost", "jpeg_compression", "pixelate", "saturate", "snow", "spatter"])
def test_other_numbers_of_channels_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="1 or 3 channels"):
        corrupted(name, np.zeros((1, 32, 32, 4), np.uint8), 1)


def test_missing_scipy_and_missing_frost_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    monkeypatch.setattr(weather, "find_spec", lambda name: None)
    filters.gaussian_operator.cache_clear()
    weather._texture.cache_clear()
    with pytest.raises(MissingExtraError, match="scipy"):
        corrupted("gaussian_blur", pictures(1, 32, 32, 3), 1)
    with pytest.raises(MissingExtraError, match="imagecorruptions"):
        corrupted("frost", pictures(1, 32, 32, 3), 1)
