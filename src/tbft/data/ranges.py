"""What the values of arrays are: pixels of 8 or 16 bits, values in [0, 1], normalized ones, measurements.

Told apart where they can be, by type, shape and range; refused with the remedy where they cannot. What was
assumed is a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.spec import InputSpec
from tbft.errors import DataError

Array = npt.NDArray[Any]

#: Rounding and interpolation may leave values this much outside [0, 1].
_TOLERANCE = 1e-3
#: Normalized pictures lie within so many standard deviations; other values below 0 are something else.
_MAX_NORMALIZED = 20.0
#: An array of three axes of numbers is a stack of gray pictures only if both sides have so many px.
_MIN_SIDE = 8
#: ... and, where they are not square, so many.
_MIN_LONG_SIDE = 24
_OPTIONS = "--range normalized (InputSpec(range='normalized')) if the model takes the values as they are"


@dataclass(frozen=True, eq=False)
class Ranged:
    """Arrays whose values are known.

    Attributes:
        inputs: ``uint8`` pictures; or floats, pictures in [0, 1] or else what the model takes.
        as_taken: the values are as the model takes them; no normalization is to be applied to them.
        notes: what was assumed.
    """

    inputs: Array
    as_taken: bool = False
    notes: tuple[str, ...] = ()


def settle_range(inputs: Array, spec: InputSpec, name: str) -> Ranged:
    """Find out what the values are, and scale pixels to ``uint8`` or to floats in [0, 1].

    Args:
        inputs: (n, ...) of booleans, integers or finite floats, in any layout.
        spec: its `range` settles what cannot be seen.
        name: of the set, for messages.

    Raises:
        DataError: the values are none that `spec` allows, or cannot be told apart.
    """
    kind = inputs.dtype.kind
    if kind == "b":
        return _of_booleans(inputs)
    if spec.range == "normalized":
        return _as_they_are(inputs, spec, name)
    if inputs.dtype == np.uint8:
        return _of_bytes(inputs, spec, name)
    if spec.top is None and not _are_pictures(inputs, spec):
        return _of_measurements(inputs)
    low, high = float(inputs.min()), float(inputs.max())
    if spec.top is not None:
        return _scaled(inputs, spec.top, (low, high), name)
    return (
        _of_integers(inputs, low, high, name) if kind in "iu" else _of_floats(inputs, spec, (low, high), name)
    )


def _are_pictures(inputs: Array, spec: InputSpec) -> bool:
    """Do type and shape say so?"""
    if spec.resolution is not None:
        return True
    sides = _sides(inputs.shape[1:], spec.channels)
    if sides is None or min(sides) < _MIN_SIDE:
        return False
    square = sides[0] == sides[1]
    if inputs.ndim == 4:
        return square or min(sides) >= _MIN_LONG_SIDE or 3 in (inputs.shape[1], inputs.shape[3])
    # Windows of a series have three axes too; floats in them are taken as they are.
    return inputs.dtype.kind in "iu" and inputs.min() >= 0 and (square or min(sides) >= _MIN_LONG_SIDE)


def _sides(shape: tuple[int, ...], channels: int | None) -> tuple[int, int] | None:
    """Height and width of one sample, if it can be a picture."""
    known = {channels} if channels is not None else {1, 3, 4}
    if len(shape) == 2:
        return (shape[0], shape[1])
    if len(shape) != 3:
        return None
    if shape[0] in known:
        return (shape[1], shape[2])
    return (shape[0], shape[1]) if shape[2] in known else None


def _of_booleans(inputs: Array) -> Ranged:
    if inputs.ndim < 3:
        return Ranged(inputs.astype(np.float32))
    return Ranged(
        inputs.astype(np.uint8) * np.uint8(255), notes=("true and false are read as white and black",)
    )


def _as_they_are(inputs: Array, spec: InputSpec, name: str) -> Ranged:
    if inputs.dtype == np.uint8:
        raise DataError(
            f"{name}: uint8 pictures are pixels, not normalized values; for a model that takes 0 to 255 give "
            "--mean 0-255 (InputSpec(mean='0-255')), otherwise leave --range out"
        )
    if spec.normalizes:
        raise DataError(
            f"{name}: this model takes values in [0, 1] and normalizes them itself; leave --range out"
        )
    return Ranged(
        inputs, as_taken=True, notes=("values are given to the model as they are, as --range says",)
    )


def _of_bytes(inputs: Array, spec: InputSpec, name: str) -> Ranged:
    if spec.top not in (None, 1, 255):
        return _scaled(inputs, spec.top or 1, (float(inputs.min()), float(inputs.max())), name)
    masks = spec.top == 1 or (spec.top is None and _are_masks(inputs))
    if not masks:
        return Ranged(inputs)
    if inputs.max() > 1:
        raise DataError(
            f"{name}: uint8 pictures up to {int(inputs.max())} do not lie in 0-1; leave --range out"
        )
    return Ranged(inputs * np.uint8(255), notes=("uint8 pictures of 0 and 1 are read as black and white",))


def _are_masks(inputs: Array) -> bool:
    """Is 1 the highest value? Looks at a few first: a set on disk is not read for it."""
    return inputs[:8].max() == 1 and not isinstance(inputs, np.memmap) and inputs.max() == 1


def _of_measurements(inputs: Array) -> Ranged:
    if inputs.dtype.kind == "f" or inputs.ndim != 3:
        return Ranged(inputs)
    told = f"whole numbers from {int(inputs.min()):,} to {int(inputs.max()):,}"
    return Ranged(
        inputs, notes=(f"{told} are given to the model as they are (--range 0-255 if they are pixels)",)
    )


def _of_integers(inputs: Array, low: float, high: float, name: str) -> Ranged:
    kind = str(inputs.dtype)
    if low < 0 or high > 65535:
        raise DataError(
            f"{name}: pictures of {kind} from {low:.0f} to {high:.0f} are neither of 8 nor of 16 bits; "
            f"convert them to uint8 or to floats in [0, 1], or to float32 with {_OPTIONS}"
        )
    if high <= 1:
        ranged = _scaled(inputs, 1.0, (low, high), name)
        return Ranged(ranged.inputs, notes=(f"{kind} pictures of 0 and 1 are read as black and white",))
    if high < 64:
        raise DataError(
            f"{name}: pictures of {kind} from {low:.0f} to {high:.0f} would be all but black as 8 bits; give "
            f"--range 0-N with the highest value that a pixel can have (0-{high:.0f}? else 0-255)"
        )
    top = 255.0 if high <= 255 else 65535.0
    told = f"{kind} pictures are read as {8 if top == 255 else 16} bits, 0 to {top:.0f}"
    if top > 255 and high < 32768:
        told += f"; their highest value is {high:.0f} (of 12 bits? then give --range 0-4095)"
    return Ranged(_scaled(inputs, top, (low, high), name).inputs, notes=(told,))


def _of_floats(inputs: Array, spec: InputSpec, lowest_highest: tuple[float, float], name: str) -> Ranged:
    low, high = lowest_highest
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return Ranged(inputs)
    told = f"{name}: float pictures from {low:.4g} to {high:.4g}"
    if low < 0:
        return _of_signed_floats(inputs, spec, lowest_highest, told)
    if 16 < high <= 255 and bool((np.abs(inputs - np.rint(inputs)) < _TOLERANCE).all()):
        note = f"float pictures of whole numbers from {low:.0f} to {high:.0f} are read as pixels, 0 to 255"
        return Ranged(np.rint(inputs).astype(np.uint8), notes=(note,))
    as_pixels = next((n for n in (255, 65535) if high <= 1.01 * n), None)
    if high <= 16:
        remedy = f"give --range 0-N with the highest value that a pixel can have (0-{int(np.ceil(high))}?)"
    elif as_pixels is None:
        remedy = "scale them to [0, 1]"
    else:
        remedy = f"if they are pixels, give --range 0-{as_pixels} or divide by {as_pixels}"
    as_taken = "" if spec.normalizes else f"; give {_OPTIONS}"
    raise DataError(f"{told} are not in [0, 1], which pictures have to be in: {remedy}{as_taken}")


def _of_signed_floats(
    inputs: Array, spec: InputSpec, lowest_highest: tuple[float, float], told: str
) -> Ranged:
    low, high = lowest_highest
    likely = max(-low, high) <= _MAX_NORMALIZED
    if spec.normalizes:
        seem = "seem to be normalized already" if likely else "are no pixels"
        raise DataError(
            f"{told} are not in [0, 1] and {seem}, and this model normalizes its inputs itself: leave "
            "normalization out where they are made"
        )
    if likely:
        note = f"float pictures from {low:.3g} to {high:.3g} are taken as normalized already"
        given = " (mean and std are not applied again)" if spec.preprocessing.changes_values else ""
        return Ranged(inputs, as_taken=True, notes=(note + given,))
    raise DataError(f"{told} are neither pixels nor normalized; scale them to [0, 1], or give {_OPTIONS}")


def _scaled(inputs: Array, top: float, lowest_highest: tuple[float, float], name: str) -> Ranged:
    """Values from 0 to `top` as ``uint8`` where nothing is lost by it, else as floats in [0, 1]."""
    low, high = lowest_highest
    if low < -_TOLERANCE * top or high > top * (1 + _TOLERANCE):
        raise DataError(
            f"{name}: values from {low:.4g} to {high:.4g} do not lie in 0-{top:.0f}, as --range says"
        )
    whole = inputs.dtype.kind in "iu"
    if whole and top in (1, 255):
        return Ranged(inputs.astype(np.uint8) * np.uint8(255 / top))
    return Ranged(inputs.astype(np.float32) / np.float32(top))
