"""Elastic transform: a random affine map, then every pixel moved a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from tbft.scenarios.corruptions import filters
from tbft.scenarios.corruptions.shared import Doubles, Floats, Rng, corruption, to_uint8, to_unit
from tbft.scenarios.drift import Pictures

Whole = npt.NDArray[np.int64]

# The ImageNet script says 244 although its pictures have 224 pixels; the published results follow the script.
_OVER = 244 / 224


@corruption(
    "elastic_transform",
    "stretched and sheared, and distorted locally",
    small=((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    large=(
        (_OVER * 2, _OVER * 0.7, _OVER * 0.1),
        (_OVER * 2, _OVER * 0.08, _OVER * 0.2),
        (_OVER * 0.05, _OVER * 0.01, _OVER * 0.02),
        (_OVER * 0.07, _OVER * 0.01, _OVER * 0.02),
        (_OVER * 0.12, _OVER * 0.01, _OVER * 0.02),
    ),
)
def elastic_transform(pictures: Pictures, c: tuple[float, ...], generators: Iterator[Rng]) -> Pictures:
    """Move three points by up to c[2], then pixels by noise of strength c[0] and smoothness c[1].

    All three are fractions of the picture's shorter side, as are the scripts' numbers of pixels.
    """
    h, w = pictures.shape[1:3]
    strength, smoothness, shift = (value * min(h, w) for value in c)
    draws = [
        (g.uniform(-shift, shift, (3, 2)), g.uniform(-1, 1, (h, w)), g.uniform(-1, 1, (h, w)))
        for g in generators
    ]
    moved = _warp(to_unit(pictures), _affine_maps((h, w), np.stack([points for points, _, _ in draws])))
    noise = np.stack([(dy, dx) for _, dx, dy in draws])
    dy, dx = (
        strength * filters.gaussian(noise[:, axis], smoothness, "reflect", 3.0).astype(np.float32)
        for axis in (0, 1)
    )
    return to_uint8(_sample(moved, np.arange(h)[:, None] + dy, np.arange(w) + dx, _half_mirror))


def _affine_maps(size: tuple[int, int], shifts: Doubles) -> Doubles:
    """Maps (n, 2, 3) from positions in the result, (x, y, 1), to positions in the picture."""
    center, reach = np.array(size) // 2, min(size) // 3
    points = center + reach * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    goals = points.astype(np.float32) + shifts.astype(np.float32)
    ones = np.ones((len(goals), 3, 1))
    sources = np.broadcast_to(points, goals.shape).astype(np.float64)
    solved: Doubles = np.linalg.solve(np.concatenate([goals.astype(np.float64), ones], axis=2), sources)
    return solved.transpose(0, 2, 1)


def _warp(pictures: Floats, maps: Doubles) -> Floats:
    """``cv2.warpAffine``: linear interpolation, borders mirrored without the edge pixel."""
    h, w = pictures.shape[1:3]
    y, x = np.mgrid[:h, :w]
    positions = np.einsum("nik,kyx->niyx", maps, np.stack([x, y, np.ones_like(x)]).astype(np.float64))
    return _sample(pictures, positions[:, 1], positions[:, 0], _whole_mirror)


def _sample(pictures: Floats, y: Floats, x: Floats, mirror: Callable[[Whole, int], Whole]) -> Floats:
    """Pictures (n, h, w, c) at positions (n, h', w') between pixels, linearly interpolated."""
    n, h, w, channels = pictures.shape
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = ((p - np.floor(p))[..., None].astype(pictures.dtype) for p in (y, x))
    pixels = pictures.reshape(n * h * w, channels)
    start = (np.arange(n) * h * w)[:, None, None]
    rows = [start + mirror(top + i, h) * w for i in (0, 1)]
    columns = [mirror(left + i, w) for i in (0, 1)]

    def line(row: Whole) -> Floats:
        first, second = (pixels[row + column] for column in columns)
        between: Floats = first + right * (second - first)
        return between

    above, below = line(rows[0]), line(rows[1])
    out: Floats = above + down * (below - above)
    return out


def _whole_mirror(index: Whole, size: int) -> Whole:
    """Positions beyond the border, mirrored at the middle of the edge pixel: 2 1 0 1 2."""
    period = max(1, 2 * size - 2)
    index = index % period
    return np.minimum(index, period - index) if size > 1 else index


def _half_mirror(index: Whole, size: int) -> Whole:
    """Positions beyond the border, mirrored at the outside of the edge pixel: 1 0 0 1."""
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)
