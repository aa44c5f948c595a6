"""Blur: defocus, glass, motion, zoom, gaussian."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tbft.scenarios.corruptions import filters
from tbft.scenarios.corruptions.shared import (
    Doubles,
    Floats,
    Rng,
    corruption,
    integers,
    to_uint8,
    to_unit,
    to_unit_doubles,
)
from tbft.scenarios.drift import Pictures


@corruption(
    "defocus_blur",
    "out of focus: every point becomes a disk",
    small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    large=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
)
def defocus_blur(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """Correlated with a disk of radius c[0], itself smoothed with a Gaussian of c[1] pixels."""
    return to_uint8(filters.correlate(to_unit(pictures), disk(*c)))


@lru_cache(maxsize=16)
def disk(radius: float, sigma: float) -> npt.NDArray[np.float32]:
    """A disk of total 1, its edge smoothed over 3 x 3 pixels, or 5 x 5 for a radius above 8."""
    reach, width = (8, 3) if radius <= 8 else (int(radius), 5)
    squares = np.arange(-reach, reach + 1) ** 2
    inside = (squares[:, None] + squares <= radius**2).astype(np.float64)
    taps = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    kernel = filters.correlate((inside / inside.sum())[None], np.outer(taps, taps))[0]
    return _without_margin(kernel.astype(np.float32))


def _without_margin(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # A disk is symmetric, so cutting the same from all sides keeps its center.
    margin = int(np.argmax(kernel.any(axis=1)))
    return kernel[margin : len(kernel) - margin, margin : len(kernel) - margin]


@corruption(
    "glass_blur",
    "seen through frosted glass: pixels copied from nearby, between two Gaussian blurs",
    small=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    large=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
)
def glass_blur(pictures: Pictures, c: tuple[float, int, int], generators: Iterator[Rng]) -> Pictures:
    """Gaussian blur of c[0] pixels, c[2] rounds of shuffling by up to c[1] pixels, the same blur again."""
    n, h, w, channels = pictures.shape
    blurred = (_gaussian(to_unit_doubles(pictures), c[0]) * 255).astype(np.uint8)
    sources = _shuffled((h, w), c[1], c[2], generators)
    shuffled = np.take_along_axis(blurred.reshape(n, h * w, channels), sources.T[..., None], axis=1)
    return to_uint8(_gaussian(to_unit_doubles(shuffled.reshape(pictures.shape)), c[0]))


def _shuffled(
    size: tuple[int, int], reach: int, rounds: int, generators: Iterator[Rng]
) -> npt.NDArray[np.intp]:
    """For each pixel (h * w, n), the pixel of the blurred picture that ends up there.

    The official script means to swap two pixels of an array, but its assignment copies one of them: the
    second is read after it was written. The published pictures contain copies, so ours do, too. The loop runs
    over the pixels from the last to the first, for all pictures together.
    """
    h, w = size
    ys, xs = np.arange(h - reach, reach, -1), np.arange(w - reach, reach, -1)
    moves = np.stack([integers(g, -reach, reach, (rounds, len(ys), len(xs), 2)) for g in generators], axis=-1)
    columns, rows = moves[:, :, :, 0], moves[:, :, :, 1]  # the horizontal one is drawn first
    targets = np.broadcast_to(ys[:, None] * w + xs, moves.shape[:3]).ravel()
    n = moves.shape[-1]
    come_from = targets[:, None] + (rows * w + columns).reshape(-1, n)
    come_from = come_from * n + np.arange(n)
    pixels = np.repeat(np.arange(h * w)[:, None], n, axis=1)
    flat = pixels.reshape(-1)
    for target, source in zip(targets.tolist(), come_from, strict=True):
        pixels[target] = flat.take(source)
    return pixels


@corruption(
    "motion_blur",
    "the camera moved along a line",
    small=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    large=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
)
def motion_blur(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """ImageMagick's motion blur with radius c[0] and sigma c[1], at an angle from -45 to 45 degrees."""
    degrees = [g.uniform(-45, 45) for g in generators]
    return filters.motion_blur(pictures, *c, degrees)


@corruption(
    "zoom_blur",
    "the camera moved toward the scene: the mean over enlarged pictures",
    small=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    large=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
def zoom_blur(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """The mean of the picture and its enlargements by 1, 1 + c[1], ... to below c[0]."""
    factors = tuple(np.arange(1, *c).tolist())
    planes = filters.to_planes(to_unit(pictures))
    n, channels, h, w = planes.shape
    rows, columns = (_stacked_zooms(size, factors) for size in (h, w))
    # All enlargements at once: first along the columns, stacked as (..., h * factors, w), then along the
    # rows, where the product also sums over the factors.
    tall = rows.reshape(-1, h) @ planes
    total = tall.reshape(n, channels, h, -1) @ columns.transpose(1, 2, 0).reshape(-1, w)
    return to_uint8(filters.from_planes((planes + total) / (len(factors) + 1)))


@lru_cache(maxsize=16)
def _stacked_zooms(size: int, factors: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Operators (size, factors, size) that zoom along an axis."""
    return np.stack([filters.zoom_operator(size, f) for f in factors], axis=1).astype(np.float32)


@corruption(
    "gaussian_blur",
    "smoothed with a Gaussian",
    small=(0.4, 0.6, 0.7, 0.8, 1.0),
    large=(1.0, 2.0, 3.0, 4.0, 6.0),
)
def gaussian_blur(pictures: Pictures, sigma: float, generators: Iterator[Rng]) -> Pictures:
    """``skimage.filters.gaussian`` with `sigma` pixels."""
    return to_uint8(_gaussian(to_unit_doubles(pictures), sigma))


def _gaussian(unit: Doubles, sigma: float) -> Floats:
    return filters.from_planes(filters.gaussian(filters.to_planes(unit), sigma))
