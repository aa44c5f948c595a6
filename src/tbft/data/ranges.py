"""What the values of arrays are: pixels of 8 or 16 bits, values in [0, 1], normalized ones, measurements.

Recognized by type, shape and range where possible, and otherwise refused with the remedy. What was
assumed is a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.extremes import TOLERANCE, Values
from tbft.data.spec import InputSpec
from tbft.errors import DataError

Array = npt.NDArray[Any]

#: Normalized pictures lie within this many standard deviations; other negative values are something else.
_MAX_NORMALIZED = 20.0
#: An array of three axes of numbers is a stack of gray pictures only if both sides have this many px.
_MIN_SIDE = 8
#: ... and, where they are not square, this many.
_MIN_LONG_SIDE = 24
#: 8-bit pictures in which no pixel is brighter than this would be almost black.
_MIN_TOP = 64
_OPTIONS = (
    "--range normalized (tbft.make_samples(..., spec=tbft.InputSpec(range='normalized'))) if the model takes "
    "the values as they are"
)


@dataclass(frozen=True)
class Conversion:
    """What makes ``uint8`` pictures, floats in [0, 1], or what the model takes of values.

    Attributes:
        divisor: of the values; None: none.
        to_bytes: the result, times 255, is ``uint8``; otherwise ``float32``.
        as_taken: the values are as the model takes them; no normalization is to be applied to them.
        notes: what was assumed.
    """

    divisor: float | None = None
    to_bytes: bool = False
    as_taken: bool = False
    notes: tuple[str, ...] = ()

    def apply(self, inputs: Array) -> Array:
        """Arrays of the kind that this was found for."""
        if not self.to_bytes:
            floats = inputs.astype(np.float32, copy=False)
            return floats if self.divisor in (None, 1) else floats / np.float32(self.divisor)
        factor = 255 / (self.divisor or 255)
        if inputs.dtype == np.uint8:
            return inputs if factor == 1 else inputs * np.uint8(factor)
        pixels = np.rint(inputs).astype(np.uint8) if inputs.dtype.kind == "f" else inputs.astype(np.uint8)
        return pixels if factor == 1 else pixels * np.uint8(factor)


def settle_range(values: Values, spec: InputSpec, name: str) -> Conversion:
    """Find out what values are, and what to do with them.

    Args:
        spec: its `range` settles what cannot be seen.
        name: of the set, for messages.

    Raises:
        DataError: values that `spec` does not allow, or that may mean several things.
    """
    kind = values.dtype.kind
    if kind == "b":
        note = ("true and false are read as white and black",)
        return Conversion(1, True, notes=note) if len(values.shape) > 1 else Conversion()
    if spec.range == "normalized":
        return _as_they_are(values, spec, name)
    if spec.top is not None:
        return _scaled(values, spec.top, name)
    if values.dtype == np.uint8:
        return _black_and_white(values) if values.high == 1 else Conversion(to_bytes=True)
    if not _are_pictures(values, spec):
        return _of_measurements(values)
    return _of_integers(values, name) if kind in "iu" else _of_floats(values, spec, name)


def _are_pictures(values: Values, spec: InputSpec) -> bool:
    """Whether type and shape are those of pictures."""
    if spec.resolution is not None:
        return True
    shape = values.shape
    sides = _sides(shape, spec.channels)
    if sides is None or min(sides) < _MIN_SIDE:
        return False
    square = sides[0] == sides[1]
    if len(shape) == 3:
        # Spectra and windows have one channel as well, but seldom a square.
        alike = values.dtype.kind in "iu" and min(sides) >= _MIN_LONG_SIDE
        return square or alike or _look_like_pixels(values) or 3 in (shape[0], shape[2])
    # Windows of a series have as many axes; floats in them are taken as they are, unless they are pixels.
    if values.dtype.kind == "f":
        return square and _look_like_pixels(values)
    return values.low >= 0 and (square or min(sides) >= _MIN_LONG_SIDE)


def _look_like_pixels(values: Values) -> bool:
    return values.whole and values.low >= 0 and _MIN_TOP <= values.high <= 255


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


def _as_they_are(values: Values, spec: InputSpec, name: str) -> Conversion:
    if values.dtype == np.uint8:
        raise DataError(
            f"{name}: uint8 pictures are pixels, not normalized values; for a model that takes 0 to 255 give "
            "--mean 0-255 (InputSpec(mean='0-255')), otherwise leave --range out"
        )
    if spec.normalizes:
        raise DataError(
            f"{name}: this model takes values in [0, 1] and normalizes them itself; leave --range out"
        )
    return Conversion(as_taken=True, notes=("values are given to the model as they are, as --range says",))


def _black_and_white(values: Values) -> Conversion:
    return Conversion(1, True, notes=(f"{values.dtype} pictures of 0 and 1 are read as black and white",))


def _of_measurements(values: Values) -> Conversion:
    side = round(values.shape[0] ** 0.5) if len(values.shape) == 1 else 0
    flat = side >= _MIN_SIDE and side * side == values.shape[0] and _look_like_pixels(values)
    if not flat and (values.dtype.kind == "f" or len(values.shape) != 2):
        return Conversion()
    what = f"whole numbers from {values.low:,.0f} to {values.high:,.0f}"
    return Conversion(
        notes=(f"{what} are given to the model as they are (--range 0-255 if they are pixels)",)
    )


def _of_integers(values: Values, name: str) -> Conversion:
    kind, low, high = str(values.dtype), values.low, values.high
    if low < 0 or high > 65535:
        raise DataError(
            f"{name}: pictures of {kind} from {low:.0f} to {high:.0f} are neither of 8 nor of 16 bits; "
            f"convert them to uint8 or to floats in [0, 1], or to float32 with {_OPTIONS}"
        )
    if high <= 1:
        return _black_and_white(values)
    if high < _MIN_TOP:
        raise DataError(
            f"{name}: pictures of {kind} from {low:.0f} to {high:.0f} would be all but black as 8 bits; give "
            f"--range 0-N with the highest value that a pixel can have (0-{high:.0f}? else 0-255)"
        )
    top = 255 if high <= 255 else 65535
    what = f"{kind} pictures are read as {8 if top == 255 else 16} bits, 0 to {top}"
    if top > 255 and high < 32768:
        what += f"; their highest value is {high:.0f} (of 12 bits? then give --range 0-4095)"
    return replace(_scaled(values, top, name), notes=(what,))


def _of_floats(values: Values, spec: InputSpec, name: str) -> Conversion:
    low, high = values.low, values.high
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return Conversion()
    what = f"{name}: float pictures from {low:.4g} to {high:.4g}"
    if low < 0:
        return _of_signed_floats(values, spec, what)
    if 16 < high <= 255 and values.whole:
        note = f"float pictures of whole numbers from {low:.0f} to {high:.0f} are read as pixels, 0 to 255"
        return Conversion(255, True, notes=(note,))
    as_pixels = next((n for n in (255, 65535) if high <= 1.01 * n), None)
    if high <= 16:
        remedy = f"give --range 0-N with the highest value that a pixel can have (0-{int(np.ceil(high))}?)"
    elif as_pixels is None:
        remedy = "scale them to [0, 1]"
    else:
        remedy = f"if they are pixels, give --range 0-{as_pixels} or divide by {as_pixels}"
    as_taken = "" if spec.normalizes else f"; give {_OPTIONS}"
    raise DataError(f"{what} are not in [0, 1], which pictures have to be in: {remedy}{as_taken}")


def _of_signed_floats(values: Values, spec: InputSpec, what: str) -> Conversion:
    likely = max(-values.low, values.high) <= _MAX_NORMALIZED
    if spec.normalizes:
        seem = "seem to be normalized already" if likely else "are not pixels"
        raise DataError(
            f"{what} are not in [0, 1] and {seem}, and this model normalizes its inputs itself: leave "
            "normalization out where they are made"
        )
    if not likely:
        raise DataError(f"{what} are neither pixels nor normalized; scale them to [0, 1], or give {_OPTIONS}")
    note = f"float pictures from {values.low:.3g} to {values.high:.3g} are taken as normalized already"
    given = " (mean and std are not applied again)" if spec.preprocessing.changes_values else ""
    return Conversion(as_taken=True, notes=(note + given,))


def _scaled(values: Values, top: float, name: str) -> Conversion:
    """Values from 0 to `top` as ``uint8`` where nothing is lost by it, else as floats in [0, 1]."""
    if values.low < -TOLERANCE * top or values.high > top * (1 + TOLERANCE):
        raise DataError(
            f"{name}: values from {values.low:.4g} to {values.high:.4g} do not lie in 0-{top:.0f}, as "
            "--range says"
        )
    pictures = values.dtype.kind in "iu" and len(values.shape) > 1
    return Conversion(top, to_bytes=pictures and top in (1, 255))
