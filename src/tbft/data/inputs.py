"""Inputs in the layout, range and size that a model takes, from arrays and tensors of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.data.label_values import numpy_of
from tbft.data.layout import axes_placed, has_size, picture_size, resized
from tbft.data.lazy import LazyRows, as_array, as_lazy
from tbft.data.ranges import Conversion, settle_range, values_of
from tbft.data.spec import InputSpec, Preprocessing
from tbft.errors import DataError

Array = npt.NDArray[Any]

#: So many samples are looked at at a time.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Fitted:
    """Inputs as :class:`~tbft.data.samples.Samples` holds them.

    Attributes:
        inputs: ``uint8`` pictures (n, height, width, channels), or ``float32`` in the layout that the model
            takes.
        as_taken: the values are as the model takes them; no normalization is to be applied to them.
        notes: what was assumed.
    """

    inputs: Array
    as_taken: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitting:
    """What makes inputs that a model takes of arrays of one kind.

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
        """What is done to such inputs, of which one will do."""
        notes, few = self.conversion.notes, self._placed(inputs[:1])
        if few.size == 3 * inputs[:1].size:
            notes += ("gray pictures got three equal channels",)
        if has_size(few, self.spec):
            return notes
        (height, width), side = picture_size(few), self.spec.resolution
        return (*notes, f"pictures of {width}x{height} px are fitted to {side}x{side}")

    def _placed(self, inputs: Array) -> Array:
        return axes_placed(self.conversion.apply(inputs), self.spec, self.torch_layout, self.name)


def fit_inputs(inputs: Any, spec: InputSpec, name: str) -> Fitted:
    """Check inputs against what the model takes, and put them in the standard layout, range and size.

    Args:
        inputs: an array or a tensor on any device, (n, ...): pictures of 8 or 16 bits or of booleans, with
            their channels first or last or without an axis for them; floats; or whole numbers. What is
            fitted already is returned.
        spec: what the model takes, and what is known of the values.
        name: of the set, for messages.

    Raises:
        DataError: no samples, values that are not finite, or inputs that do not fit the model.
    """
    if isinstance(inputs, Fitted):
        return inputs
    if (lazy := as_lazy(inputs)) is not None:
        return _fitted_when_made(lazy, spec, name)
    array = _array(inputs, name)
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"{name}: there are no samples in it")
    if array.size == 0:
        raise DataError(f"{name}: the samples are empty, of shape {array.shape[1:]}")
    if spec.token_ids:
        return Fitted(token_ids(array, name))
    array = finite_floats(array, name) if array.dtype.kind == "f" else array
    conversion = settle_range(values_of(array), spec, name)
    # torch's layout has the channels first, NumPy's and Pillow's has them last.
    fitting = Fitting(conversion, spec, isinstance(inputs, Tensor), name)
    return Fitted(fitting.apply(array), conversion.as_taken, fitting.notes(array))


def token_ids(array: Array, name: str) -> Array:
    """Inputs that are whole numbers from 0.

    Raises:
        DataError: they are not.
    """
    if array.dtype.kind not in "iub" and not (array.dtype.kind == "f" and bool((array % 1 == 0).all())):
        raise DataError(f"{name}: the model takes token ids, whole numbers, and these are {array.dtype}")
    if array.min() < 0:
        raise DataError(f"{name}: the token id {array.min():g} is negative; the model's table starts at 0")
    return array.astype(np.int64)


def _fitted_when_made(rows: LazyRows, spec: InputSpec, name: str) -> Fitted:
    """Pictures that are decoded when they are indexed, resized at the same time."""
    if spec.channels not in (None, rows.shape[3]):
        raise DataError(
            f"{name}: the model takes {spec.channels} channels, the pictures are {rows.shape[1:]}"
        )
    if has_size(as_array(rows), spec):
        return Fitted(as_array(rows))
    side = spec.resolution
    assert side is not None
    height, width = rows.shape[1:3]
    noted = f"pictures of {width}x{height} px are fitted to {side}x{side}"
    fitted = rows.mapped(lambda some, _: resized(some, spec.preprocessing), (side, side, rows.shape[3]))
    return Fitted(as_array(fitted), notes=(noted,))


def finite_floats(inputs: Array, name: str) -> Array:
    """The same as ``float32``.

    Raises:
        DataError: values that are NaN, infinite, or too large for ``float32``; the first sample is named.
    """
    with np.errstate(over="ignore"):
        floats = inputs.astype(np.float32, copy=False)
    bad = np.concatenate(
        [
            ~np.isfinite(floats[at : at + _CHUNK].reshape(len(floats[at : at + _CHUNK]), -1)).all(axis=1)
            for at in range(0, len(floats), _CHUNK)
        ]
    )
    if not bad.any():
        return floats
    first = int(np.flatnonzero(bad)[0])
    huge = np.isfinite(inputs[first].astype(np.float64)).all()
    what = (
        f"values too large for float32 (up to {np.abs(inputs[first]).max():.4g})"
        if huge
        else "NaN or infinite values"
    )
    if len(floats) == 1:
        raise DataError(f"{name}: it has {what}; remove or repair it")
    raise DataError(
        f"{name}: {int(bad.sum())} of {len(floats)} samples have {what}, the first is sample {first}; "
        "remove or repair them"
    )


def normalize(inputs: Tensor, wanted: Preprocessing, name: str) -> Tensor:
    """Reorder the channels and normalize them: ``(value - mean) / std``.

    Args:
        inputs: (n, channels, ...), pictures in [0, 1]; where axis 1 does not have as many entries as there
            are numbers, the last axis is that of the channels.

    Raises:
        DataError: the numbers of channels differ.
    """
    if not wanted.changes_values:
        return inputs
    if wanted.channel_order == "BGR" and inputs.ndim == 4 and inputs.shape[1] == 3:
        inputs = inputs.flip(1)
    count = max(len(wanted.mean), len(wanted.std))
    axis = next((a for a in (1, inputs.ndim - 1) if count in (1, inputs.shape[a])), None)
    if axis is None:
        shape = tuple(inputs.shape[1:])
        raise DataError(
            f"{name}: mean and std have {count} numbers, which no axis of inputs of shape {shape} has"
        )
    around = [1] * inputs.ndim
    around[axis] = -1
    mean, std = (torch.tensor(v, dtype=torch.float32).view(around) for v in (wanted.mean, wanted.std))
    return (inputs - mean) / std


def _array(inputs: Any, name: str) -> Array:
    if isinstance(inputs, Tensor):
        array = numpy_of(inputs)
    elif isinstance(inputs, np.ma.MaskedArray) and np.ma.is_masked(inputs):
        raise DataError(f"{name}: some inputs are masked; fill them in or leave them out: inputs.filled(0)")
    elif hasattr(inputs, "__array__"):  # a table of pandas, too; what is on disk stays there
        array = inputs if isinstance(inputs, np.ndarray) else np.asarray(inputs)
    else:
        try:
            array = np.asarray([numpy_of(v) if isinstance(v, Tensor) else v for v in inputs])
        except (TypeError, ValueError):
            raise DataError(f"{name}: inputs of mixed shapes, or no numbers; make them one size") from None
    return as_numbers(array, name)


def as_numbers(array: Array, name: str) -> Array:
    """The array, if it holds booleans, integers or floats; anything else is a DataError."""
    if array.dtype == object:
        raise DataError(
            f"{name}: the inputs are Python objects, not numbers; make them one array: np.stack(inputs), "
            "or inputs.astype('float32')"
        )
    if array.dtype.kind not in "biuf":
        remedy = (
            "; give their parts, numpy.stack([x.real, x.imag], -1), and a model that joins them, "
            "torch.view_as_complex(x)"
            if array.dtype.kind == "c"
            else ""
        )
        raise DataError(f"{name}: inputs have to be real numbers, not {array.dtype}{remedy}")
    return array
