"""The axes, channels and size of pictures held as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tbft.data.lazy import LazyRows, as_array
from tbft.data.ranges import Conversion
from tbft.data.spec import InputSpec, Preprocessing
from tbft.data.viewing import resize
from tbft.errors import DataError

Array = npt.NDArray[Any]

#: Number of pictures resized at a time.
_CHUNK = 256


def axes_placed(inputs: Array, spec: InputSpec, torch_layout: bool, name: str) -> Array:
    """Pictures with their channels last (``uint8``) or first (floats); anything else as it is.

    Gray pictures get three equal channels for a model that takes three.

    Args:
        torch_layout: ``uint8`` pictures of which both axes may be that of the channels have them first.

    Raises:
        DataError: they do not have the axes or the channels that the model takes.
    """
    pictures = inputs.dtype == np.uint8
    known = pictures or spec.resolution is not None
    if inputs.ndim == 3 and known and spec.channels in (None, 1, 3):
        gray = inputs[..., None] if pictures else inputs[:, None]
        return _in_color(gray) if spec.channels == 3 else gray
    if inputs.ndim != 4:
        if not known:
            return inputs
        remedy = "; if they are not pictures, convert them to float32, or give --range 0-255"
        raise DataError(
            f"{name}: pictures are (n, height, width, channels) or (n, channels, height, width), one sample "
            f"here has the shape {inputs.shape[1:]}{remedy if pictures else ''}"
        )
    if spec.channels == 3 and 3 not in (inputs.shape[1], inputs.shape[3]) and known:
        one = axes_placed(inputs, replace(spec, channels=None), torch_layout, name)
        if one.shape[3 if pictures else 1] == 1:
            return _in_color(one)
    if spec.channels is not None and spec.channels not in (inputs.shape[1], inputs.shape[3]):
        if not known:
            return inputs
        raise DataError(
            f"{name}: the model takes {spec.channels} channels, the pictures are {inputs.shape[1:]}; convert "
            "them, for example with Pillow: image.convert('L') or image.convert('RGB')"
        )
    return _channels_placed(inputs, spec.channels, torch_layout)


def _channels_placed(inputs: Array, channels: int | None, torch_layout: bool) -> Array:
    known = (channels,) if channels is not None else (1, 3)
    first_fits, last_fits = inputs.shape[1] in known, inputs.shape[3] in known
    if inputs.dtype == np.uint8:
        first = first_fits and (torch_layout or not last_fits)
        return inputs.transpose(0, 2, 3, 1) if first else inputs
    # Without a word on the channels, floats are left as they are unless they can only be pictures.
    square = inputs.shape[1] == inputs.shape[2]
    last = last_fits and not first_fits and (channels is not None or square or inputs.shape[3] == 3)
    return inputs.transpose(0, 3, 1, 2) if last else inputs


def _in_color(gray: Array) -> Array:
    """Three equal channels for one."""
    return np.repeat(gray, 3, axis=3 if gray.dtype == np.uint8 else 1)


def has_size(inputs: Array, spec: InputSpec) -> bool:
    """Whether nothing has to be resized; floats of the right size come from a loader that has done it."""
    side = spec.resolution
    if side is None:
        return True
    return picture_size(inputs) == (side, side) and (inputs.dtype != np.uint8 or spec.resize in (None, side))


def picture_size(pictures: Array) -> tuple[int, int]:
    """Height and width in px."""
    return pictures.shape[1:3] if pictures.dtype == np.uint8 else pictures.shape[2:4]


def resized(pictures: Array, wanted: Preprocessing) -> Array:
    """Pictures scaled and cropped as `wanted` says, in the layout and type that they have.

    Args:
        pictures: ``uint8`` (n, height, width, channels), or floats (n, channels, height, width).
    """
    return (_resized if pictures.dtype == np.uint8 else _resized_floats)(pictures, wanted)


def _resized(pictures: Array, wanted: Preprocessing) -> Array:
    assert wanted.resolution is not None
    squeeze = pictures.shape[3] == 1
    out = np.empty((len(pictures), wanted.resolution, wanted.resolution, pictures.shape[3]), np.uint8)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(picture[..., 0] if squeeze else picture))
        shown = resize(image, wanted.resolution, wanted.resize, wanted.crop)
        out[i] = np.asarray(shown).reshape(out.shape[1:])
    return out


def _resized_floats(pictures: Array, wanted: Preprocessing) -> Array:
    """The same for floats (n, channels, height, width), for which Pillow has no mode."""
    side = wanted.resolution
    assert side is not None
    height, width = picture_size(pictures)
    size = (side, side)
    if wanted.crop == "center":
        shorter = wanted.resize or side
        scale = shorter / min(height, width)
        size = (max(shorter, round(height * scale)), max(shorter, round(width * scale)))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    parts = [
        torch.nn.functional.interpolate(
            torch.from_numpy(pictures[at : at + _CHUNK]), size, mode="bilinear", antialias=True
        )[..., top : top + side, left : left + side]
        for at in range(0, len(pictures), _CHUNK)
    ]
    return torch.cat(parts).numpy()


@dataclass(frozen=True)
class Fitting:
    """Converts arrays of one kind to inputs that a model takes.

    Attributes:
        conversion: of their values.
        spec: what the model takes.
        torch_layout: pictures have their channels first where that is open.
        name: of the set, for messages.
    """

    conversion: Conversion
    spec: InputSpec
    torch_layout: bool
    name: str

    def apply(self, inputs: Array) -> Array:
        """Inputs (n, ...) in the layout, range and size that the model takes."""
        placed = self._placed(inputs)
        return placed if has_size(placed, self.spec) else resized(placed, self.spec.preprocessing)

    def notes(self, inputs: Array) -> tuple[str, ...]:
        """Notes on what is done to such inputs; one of them is enough to find out."""
        notes, few = self.conversion.notes, self._placed(inputs[:1])
        if few.size == 3 * inputs[:1].size:
            notes += ("gray pictures got three equal channels",)
        if has_size(few, self.spec):
            return notes
        (height, width), side = picture_size(few), self.spec.resolution
        return (*notes, f"pictures of {width}x{height} px are fitted to {side}x{side}")

    def _placed(self, inputs: Array) -> Array:
        return axes_placed(self.conversion.apply(inputs), self.spec, self.torch_layout, self.name)


def sized_when_made(rows: LazyRows, spec: InputSpec, name: str) -> tuple[LazyRows, tuple[str, ...]]:
    """Pictures that are decoded when they are indexed, resized at the same time, and notes on that.

    Raises:
        DataError: they do not have the channels that the model takes.
    """
    if spec.channels not in (None, rows.shape[3]):
        raise DataError(
            f"{name}: the model takes {spec.channels} channels, the pictures are {rows.shape[1:]}"
        )
    if has_size(as_array(rows), spec):
        return rows, ()
    side = spec.resolution
    assert side is not None

    def made(pictures: Array, _: Array) -> Array:
        return resized(pictures, spec.preprocessing)

    height, width = rows.shape[1:3]
    noted = f"pictures of {width}x{height} px are fitted to {side}x{side}"
    return rows.mapped(made, (side, side, rows.shape[3])), (noted,)
