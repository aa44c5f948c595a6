"""Items of datasets: which part of one is the input and which the label, and inputs as arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from tbft.data.inputs import packed
from tbft.data.keys import find_keys, inputs_at, keys_in
from tbft.data.label_values import plain_label
from tbft.data.picture_notes import COLOR_TO_GRAY, GRAY_TO_COLOR
from tbft.data.spec import InputSpec
from tbft.data.values import numpy_of
from tbft.data.viewing import as_viewed, resize
from tbft.errors import DataError
from tbft.packing import Packing

Array = npt.NDArray[Any]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Input:
    """An input as an array.

    Attributes:
        array: pictures of Pillow as ``uint8``, (height, width) or (height, width, channels).
        of_tensor: it was a tensor, which has the channels of pictures first.
        notes: what was done to a picture, in the words of :mod:`tbft.data.viewing`.
        size: (width, height) of a picture as shown, before it was fitted; None for anything else.
        packing: of several inputs, which lie side by side in `array` (width,).
    """

    array: Array
    of_tensor: bool
    notes: tuple[str, ...] = ()
    size: Size | None = None
    packing: Packing | None = None


@dataclass(frozen=True, eq=False)
class Item:
    """One sample as a dataset gives it.

    Attributes:
        label: as it is.
        more: the other values, by key; ``item_2``, ... in tuples.
    """

    input: Input
    label: Any
    more: dict[str, Any]


def parse_item(item: Any, spec: InputSpec, where: str) -> Item:
    """The parts of (input, label), (input, label, more, ...) or a mapping with the usual keys.

    Args:
        spec: its `keys` name the parts where that is not certain.
        where: what to call the item in messages.

    Raises:
        DataError: no label, keys that do not name the parts, or an input that cannot be used.
    """
    if isinstance(item, (tuple, list)):
        named: Mapping[str, Any] = {f"item_{i}": value for i, value in enumerate(item)}
        given = {what: f"item_{key}" if key.isdecimal() else key for what, key in (spec.keys or {}).items()}
        keys: Mapping[str, str] = {"inputs": "item_0", "labels": "item_1", **given}
        if len(item) < 2:
            raise DataError(f"{where} has no label; items are (input, label)")
    elif isinstance(item, Mapping):
        named, keys = {str(key): value for key, value in item.items()}, spec.keys or {}
    else:
        raise DataError(f"{where} is a {type(item).__name__}; items are (input, label) or mappings of them")
    x, y = find_keys(list(named), replace(spec, keys=keys), where)
    one = _as_input(inputs_at(named, x), spec, where)
    used = {*keys_in(x, named), y}
    more = {key: plain_label(value) for key, value in named.items() if key not in used}
    return Item(one, plain_label(named[y]), more)


def _as_input(value: Any, spec: InputSpec, where: str) -> Input:
    """An input as an array; a picture of Pillow as a viewer shows it, in the size and color of `spec`.

    Raises:
        DataError: it is not an array, tensor or picture, or a picture that cannot be decoded.
    """
    if isinstance(value, Image.Image):
        return _of_picture(value, spec, where)
    if isinstance(value, Tensor):
        return Input(numpy_of(value), of_tensor=True)
    if several := _several(value):
        rows = packed({key: [one] for key, one in several.items()}, where)
        return Input(rows.inputs[0], of_tensor=False, packing=rows.packing)
    if isinstance(value, (Mapping, str, bytes)) or value is None:
        raise DataError(
            f"{where}: its input is a {type(value).__name__}; it has to be one array, tensor or picture"
        )
    return Input(np.asarray(value), of_tensor=False)


def _several(value: Any) -> dict[str, Any]:
    """Several inputs by name or position; empty if it is one."""
    if isinstance(value, Mapping):
        return {str(key): one for key, one in value.items()}
    arrays = isinstance(value, tuple) and all(isinstance(one, (Tensor, np.ndarray)) for one in value)
    return {str(i): one for i, one in enumerate(value)} if arrays and len(value) > 1 else {}


def _of_picture(picture: Image.Image, spec: InputSpec, where: str) -> Input:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters in the warnings of decoders is in the notes
            shown, notes = as_viewed(picture, keep_alpha=spec.channels == 4)
    except DataError as error:
        raise DataError(f"{where}: its picture cannot be used: {error}") from error
    size = shown.size
    if spec.channels in (1, 3) and len(shown.getbands()) != spec.channels:
        notes += (COLOR_TO_GRAY if spec.channels == 1 else GRAY_TO_COLOR,)
        shown = shown.convert("L" if spec.channels == 1 else "RGB")
    if spec.resolution is not None:
        shown = resize(shown, spec.resolution, spec.resize, spec.crop)
    return Input(np.asarray(shown), False, notes, size)
