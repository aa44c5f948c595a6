"""Weather: snow, frost, fog."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from tbft.errors import MissingExtraError
from tbft.scenarios.corruptions import filters
from tbft.scenarios.corruptions.shared import (
    LUMINANCE,
    Doubles,
    Floats,
    Rng,
    corruption,
    integers,
    is_small,
    to_uint8,
    to_unit,
    to_unit_doubles,
)
from tbft.scenarios.drift import Pictures

#: The official scripts have a sixth texture, but draw among the first five.
_TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
#: For small pictures, every fifth pixel of a texture is used, which is what cv2.resize by 0.2 does.
_EVERY = 5


@corruption(
    "snow",
    "falling flakes in a whitened scene",
    small=(
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    large=(
        (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    color=True,
)
def snow(pictures: Pictures, c: tuple[float, ...], generators: Iterator[Rng]) -> Pictures:
    """Bright spots of normal noise, enlarged and blurred downward, added as they are and rotated by 180°."""
    mean, scale, zoom, threshold, radius, sigma, kept = c
    h, w = pictures.shape[1:3]
    draws = [(g.normal(mean, scale, (h, w)), g.uniform(-135, -45)) for g in generators]
    flakes: Floats = np.stack([layer for layer, _ in draws])
    if zoom != 1:
        flakes = filters.along_axes(flakes, filters.zoom_operator(h, zoom), filters.zoom_operator(w, zoom))
    flakes[flakes < threshold] = 0
    falling = filters.motion_blur(to_uint8(flakes)[..., None], radius, sigma, [angle for _, angle in draws])
    layer = to_unit(falling)
    unit = to_unit(pictures)
    white = (unit @ np.array(LUMINANCE, np.float32))[..., None] * 1.5 + 0.5
    scene = kept * unit + (1 - kept) * np.maximum(unit, white)
    return to_uint8(scene + layer + layer[:, ::-1, ::-1])


@corruption(
    "frost",
    "ice on the lens: photographed frost blended into the picture",
    small=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    large=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    color=True,
)
def frost(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """c[0] * x + c[1] * a random crop of a random texture.

    Raises:
        MissingExtraError: the package that contains the official textures is not installed.
    """
    h, w = pictures.shape[1:3]
    ice = np.stack([_texture_crop(h, w, g) for g in generators])
    return np.clip(c[0] * pictures + c[1] * ice, 0, 255).astype(np.uint8)


def _texture_crop(h: int, w: int, rng: Rng) -> Pictures:
    texture = _texture(int(integers(rng, 0, len(_TEXTURES))), h, w)
    top = int(integers(rng, 0, texture.shape[0] - h))
    left = int(integers(rng, 0, texture.shape[1] - w))
    return texture[top : top + h, left : left + w]


@lru_cache(maxsize=32)
def _texture(index: int, h: int, w: int) -> Pictures:
    """A texture larger than h x w, scaled as in the scripts, and enlarged if that is too small."""
    with Image.open(_texture_folder() / _TEXTURES[index]) as file:
        image = file.convert("RGB")
    small = is_small((h, w))
    if small:
        offset = _EVERY // 2
        scaled = np.asarray(image)[offset::_EVERY, offset::_EVERY]
        if scaled.shape[0] > h and scaled.shape[1] > w:
            return scaled
    enough = max(1 / _EVERY if small else 1.0, (h + 1) / image.height, (w + 1) / image.width)
    if enough != 1:
        size = (int(np.ceil(image.width * enough)), int(np.ceil(image.height * enough)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _texture_folder() -> Path:
    # Only its pictures are needed, so the package is located but never imported.
    spec = find_spec("imagecorruptions")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / "frost" / _TEXTURES[0]).is_file():
            return Path(folder) / "frost"
    raise MissingExtraError("imagecorruptions", "corruptions")


@corruption(
    "fog",
    "a plasma fractal blended into the picture, with less contrast",
    small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
def fog(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """(x + c[0] * fog) * max(x) / (max(x) + c[0])."""
    h, w = pictures.shape[1:3]
    size = 1 << (max(h, w, 2) - 1).bit_length()
    unit = to_unit_doubles(pictures)
    brightest = unit.max(axis=(1, 2, 3), keepdims=True)
    foggy = unit + c[0] * plasma(size, c[1], generators)[:, :h, :w, None]
    return to_uint8(foggy * brightest / (brightest + c[0]))


def plasma(size: int, decay: float, generators: Iterator[Rng]) -> Doubles:
    """Height maps (n, size, size) in [0, 1] by the diamond-square algorithm on a torus.

    Each new point is the mean of four neighbors plus a random number. The first random numbers reach up to
    100 squared; the base of that square is divided by `decay` each time the grid spacing is halved.
    """
    steps = [size >> i for i in range(size.bit_length() - 1)]
    counts = [(size // step) ** 2 for step in steps for _ in range(3)]
    draws = np.stack([2 * g.random(sum(counts)) - 1 for g in generators])
    parts = iter(np.split(draws, np.cumsum(counts)[:-1], axis=1))
    heights = np.zeros((len(draws), size, size))
    for i, step in enumerate(steps):
        half, reach = step // 2, (100 / decay**i) ** 2

        def mean_of_four(total: Doubles, reach: float = reach) -> Doubles:
            return total / 4 + reach * next(parts).reshape(total.shape)

        corners = heights[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        middles = heights[:, half::step, half::step]
        middles[:] = mean_of_four(pairs + np.roll(pairs, -1, axis=2))
        above_below = middles + np.roll(middles, 1, axis=1)
        heights[:, ::step, half::step] = mean_of_four(above_below + corners + np.roll(corners, -1, axis=2))
        left_right = middles + np.roll(middles, 1, axis=2)
        heights[:, half::step, ::step] = mean_of_four(left_right + corners + np.roll(corners, -1, axis=1))
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights
