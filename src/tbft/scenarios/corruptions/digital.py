"""Digital: brightness, contrast, saturation, pixelation, JPEG."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tbft.scenarios.corruptions.shared import (
    Rng,
    check_channels,
    corruption,
    to_uint8,
    to_unit,
    to_unit_doubles,
)
from tbft.scenarios.drift import Pictures


@corruption(
    "brightness",
    "the value of HSV raised; hue and saturation stay",
    small=(0.05, 0.10, 0.15, 0.20, 0.30),
    large=(0.1, 0.2, 0.3, 0.4, 0.5),
)
def brightness(pictures: Pictures, raised_by: float, generators: Iterator[Rng]) -> Pictures:
    """HSV with the value raised by a constant."""
    unit = to_unit(pictures)
    value = unit.max(axis=-1, keepdims=True)
    raised = np.minimum(value + raised_by, 1.0)
    # Hue and saturation stay when all channels scale alike; black has neither and becomes gray.
    scaled = np.where(value > 0, unit * (raised / np.where(value > 0, value, 1.0)), raised)
    # HSV and back leaves values a rounding error below whole gray levels, which truncation would lower.
    return to_uint8(scaled + 1e-6)


@corruption(
    "contrast",
    "colors pulled toward the picture's mean",
    small=(0.75, 0.50, 0.40, 0.30, 0.15),
    large=(0.4, 0.3, 0.2, 0.1, 0.05),
)
def contrast(pictures: Pictures, kept: float, generators: Iterator[Rng]) -> Pictures:
    """(x - mean) * kept + mean, with a mean for each channel."""
    unit = to_unit(pictures)
    mean = unit.mean(axis=(1, 2), keepdims=True)
    return to_uint8((unit - mean) * kept + mean)


@corruption(
    "saturate",
    "the saturation of HSV scaled and raised; hue and value stay",
    small=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    large=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    color=True,
)
def saturate(pictures: Pictures, c: tuple[float, float], generators: Iterator[Rng]) -> Pictures:
    """HSV with saturation * c[0] + c[1]."""
    unit = to_unit_doubles(pictures)
    value = unit.max(axis=-1, keepdims=True)
    depth = value - unit
    spread = depth.max(axis=-1, keepdims=True)
    saturation = spread / np.where(value > 0, value, 1.0)
    wanted = np.clip(saturation * c[0] + c[1], 0, 1)
    # With hue and value fixed, each channel's distance from the value is in proportion to the
    # saturation. Gray has no hue; HSV calls it red, so raising the saturation takes green and blue.
    relative = np.where(spread > 0, depth / np.where(spread > 0, spread, 1.0), (0.0, 1.0, 1.0))
    # In this form, rounding errors beside whole gray levels fall mostly as they do on HSV's way back.
    return to_uint8(value * (1 - wanted * relative))


@corruption(
    "pixelate",
    "fewer pixels: shrunk and enlarged again with a box filter",
    small=(0.95, 0.9, 0.85, 0.75, 0.65),
    large=(0.6, 0.5, 0.4, 0.3, 0.25),
)
def pixelate(pictures: Pictures, scale: float, generators: Iterator[Rng]) -> Pictures:
    """Pillow's BOX resize to `scale` and back."""
    check_channels(pictures, (1, 3), "pixelate")
    h, w = pictures.shape[1:3]
    coarse, box = (max(1, int(w * scale)), max(1, int(h * scale))), Image.Resampling.BOX
    return np.stack([_array(_image(p).resize(coarse, box).resize((w, h), box)) for p in pictures])


@corruption(
    "jpeg_compression",
    "JPEG at low quality",
    small=(80, 65, 58, 50, 40),
    large=(25, 18, 15, 10, 7),
)
def jpeg_compression(pictures: Pictures, quality: int, generators: Iterator[Rng]) -> Pictures:
    """Pillow's JPEG at a quality, with its defaults otherwise (chroma at half resolution)."""
    check_channels(pictures, (1, 3), "jpeg_compression")
    return np.stack([_as_jpeg(p, quality) for p in pictures])


def _as_jpeg(picture: Pictures, quality: int) -> Pictures:
    file = io.BytesIO()
    _image(picture).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return _array(image)


def _image(picture: Pictures) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _array(image: Image.Image) -> Pictures:
    pixels: Pictures = np.asarray(image)
    return pixels.reshape(image.height, image.width, -1)
