"""Spatter: drops of water or mud on the lens, and the parts of OpenCV that it needs, on batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tbft.scenarios.corruptions import filters
from tbft.scenarios.corruptions.shared import Floats, Rng, corruption, scipy_ndimage, to_uint8, to_unit
from tbft.scenarios.drift import Pictures

Whole = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_WATER = np.array([175, 238, 238], np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], np.float32) / 255
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
_BOX = np.ones((3, 3), np.float32)
_FARTHEST = 20  # distances from an edge are cut off here
#: Lengths of the moves on a grid by which OpenCV measures distance, in 1 / _UNIT of a pixel; 0: no move.
_UNIT = 10_000
_MOVES = np.array(
    [
        [0, 21969, 0, 21969, 0],
        [21969, 14000, 10000, 14000, 21969],
        [0, 10000, 0, 10000, 0],
        [21969, 14000, 10000, 14000, 21969],
        [0, 21969, 0, 21969, 0],
    ],
    np.int32,
)


@corruption(
    "spatter",
    "drops on the lens: water up to severity 3, mud from 4",
    small=(
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    large=(
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    color=True,
)
def spatter(pictures: Pictures, c: tuple[float, ...], generators: Iterator[Rng]) -> Pictures:
    """Smooth normal noise above a threshold is liquid."""
    mean, scale, sigma, threshold, thickness, is_mud = c
    draws = np.stack([g.normal(mean, scale, pictures.shape[1:3]) for g in generators])
    liquid = filters.gaussian(draws, sigma)
    liquid[liquid < threshold] = 0
    unit = to_unit(pictures)
    if is_mud:
        cover = filters.gaussian((liquid > threshold).astype(np.float32), thickness)
        cover[cover < 0.8] = 0
        return to_uint8(unit * (1 - cover[..., None]) + cover[..., None] * _MUD)
    # Through int32: values above 1 wrap around, as they do in the official arrays.
    drops = (liquid * 255).astype(np.int32).astype(np.uint8)
    gloss = drops * _relief(drops)
    brightest = gloss.max(axis=(1, 2), keepdims=True)
    gloss *= np.float32(thickness) / np.where(brightest > 0, brightest, 1)
    return to_uint8(unit + gloss[..., None] * _WATER)


def _relief(drops: Pictures) -> npt.NDArray[np.float32]:
    """Lit edges of the drops (n, h, w): the distance from the nearest edge, embossed."""
    distance = np.minimum(distance_to(canny(drops, 50, 150)), np.float32(_FARTHEST))
    level = equalized(_smooth(distance).astype(np.uint8))
    lit = np.clip(filters.correlate(level.astype(np.float32), _EMBOSS), 0, 255)
    return np.rint(_smooth(lit))


def _smooth(planes: Floats) -> npt.NDArray[np.float32]:
    """The mean over 3 x 3 pixels: summed first, so that whole numbers stay whole."""
    return (filters.correlate(planes, _BOX) / 9).astype(np.float32)


def canny(planes: Pictures, low: int, high: int) -> Mask:
    """Edges of planes (n, h, w): ``cv2.Canny`` with its defaults."""
    framed = filters.pad(planes, 1, 1, "edge").astype(np.int32)
    smooth_y = framed[:, :-2] + 2 * framed[:, 1:-1] + framed[:, 2:]
    smooth_x = framed[:, :, :-2] + 2 * framed[:, :, 1:-1] + framed[:, :, 2:]
    dx, dy = smooth_y[:, :, 2:] - smooth_y[:, :, :-2], smooth_x[:, 2:] - smooth_x[:, :-2]
    strength = np.abs(dx) + np.abs(dy)
    candidates = (strength > low) & _is_ridge(strength, dx, dy)
    # Weak edges count where they touch a strong edge, directly or through other weak edges.
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True  # within a picture, never from one to the next
    labels, count = scipy_ndimage().label(candidates, structure=touching)
    has_strong = np.zeros(count + 1, bool)
    has_strong[labels[candidates & (strength > high)]] = True
    edges: Mask = has_strong[labels]  # label 0 means no candidate, and is not strong
    return edges


def _is_ridge(strength: Whole, dx: Whole, dy: Whole) -> Mask:
    """Whether the strength has a maximum across the edge, whose direction is rounded to 45 degrees."""
    _, h, w = strength.shape
    around = filters.pad(strength, 1, 1, "constant")

    def at(y: int, x: int) -> Floats:
        return around[:, 1 + y : 1 + y + h, 1 + x : 1 + x + w]

    steep, flat = np.abs(dy).astype(np.int64) << 15, np.abs(dx).astype(np.int64) * 13573  # tan(22.5 degrees)
    horizontal, vertical = steep < flat, steep > flat + (np.abs(dx).astype(np.int64) << 16)
    in_row = (strength > at(0, -1)) & (strength >= at(0, 1))
    in_column = (strength > at(-1, 0)) & (strength >= at(1, 0))
    falling = (strength > at(-1, -1)) & (strength > at(1, 1))
    rising = (strength > at(-1, 1)) & (strength > at(1, -1))
    diagonal = np.where((dx ^ dy) < 0, rising, falling)
    return np.where(horizontal, in_row, np.where(vertical, in_column, diagonal))


def distance_to(edges: Mask) -> npt.NDArray[np.float32]:
    """Distance to the nearest edge, :data:`_FARTHEST` or more meaning far.

    ``cv2.distanceTransform(DIST_L2, 5)``: the shortest path of straight, diagonal and knight's moves.
    """
    _, h, w = edges.shape
    padded = np.full((len(edges), h + 4, w + 4), (_FARTHEST + 1) * _UNIT, np.int32)
    inner = padded[:, 2:-2, 2:-2]
    inner[edges] = 0
    changed = True
    while changed:  # at most as many times as a path of length _FARTHEST has moves
        before = inner.copy()
        for y, x in np.argwhere(_MOVES):
            np.minimum(inner, padded[:, y : y + h, x : x + w] + _MOVES[y, x], out=inner)
        changed = not np.array_equal(before, inner)
    return (inner / _UNIT).astype(np.float32)


def equalized(planes: Pictures) -> Pictures:
    """Planes (n, h, w) with their histogram flattened: ``cv2.equalizeHist``."""
    n, h, w = planes.shape
    bins = int(planes.max()) + 1
    flat = planes.reshape(n, -1).astype(np.int64)
    counts = np.bincount((np.arange(n)[:, None] * bins + flat).ravel(), minlength=n * bins).reshape(n, bins)
    lowest = flat.min(axis=1)
    at_lowest = counts[np.arange(n), lowest]
    others = h * w - at_lowest
    scale = np.float32(255) / np.maximum(others, 1).astype(np.float32)
    table = np.rint((counts.cumsum(axis=1) - at_lowest[:, None]).astype(np.float32) * scale[:, None])
    table = np.where((others > 0)[:, None], table, lowest[:, None])
    return np.take_along_axis(table, flat, axis=1).clip(0, 255).astype(np.uint8).reshape(n, h, w)
