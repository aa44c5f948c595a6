"""Inputs in the layout, range and size that a model takes, from arrays and tensors of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from tbft.data.extremes import values_of
from tbft.data.layout import Fitting, has_size, sized_when_made
from tbft.data.lazy import as_array, as_lazy
from tbft.data.ranges import settle_range
from tbft.data.spec import InputSpec, Preprocessing
from tbft.data.values import finite_floats, number_array, token_ids
from tbft.errors import DataError
from tbft.packing import Packing, pack

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Inputs as :class:`~tbft.data.samples.Samples` holds them.

    Attributes:
        inputs: ``uint8`` pictures (n, height, width, channels), or ``float32`` in the layout that the model
            takes.
        as_taken: the values are as the model takes them; no normalization is to be applied to them.
        notes: what was assumed.
        packing: how several arrays per sample lie side by side; None: there is one.
    """

    inputs: Array
    as_taken: bool = False
    notes: tuple[str, ...] = ()
    packing: Packing | None = None


def fit_inputs(inputs: Any, spec: InputSpec, name: str, are_scaled: bool = False) -> Fitted:
    """Check inputs against what the model takes, and put them in the standard layout, range and size.

    Args:
        inputs: an array or a tensor on any device, (n, ...): pictures of 8 or 16 bits or of booleans, with
            their channels first or last or without an axis for them; floats; or whole numbers. What is
            fitted already is returned.
        spec: what the model takes, and what is known about the values.
        name: of the set, for messages.
        are_scaled: they have been fitted to something before, so that only their size may have to change.

    Raises:
        DataError: no samples, values that are not finite, or inputs that do not fit the model.
    """
    if isinstance(inputs, Fitted):
        return inputs
    if isinstance(inputs, Mapping):
        return packed(inputs, name)
    if are_scaled and has_size(inputs, spec):
        return Fitted(inputs)
    if (lazy := as_lazy(inputs)) is not None:
        rows, notes = sized_when_made(lazy, spec, name)
        return Fitted(as_array(rows), notes=notes)
    array = number_array(inputs, name)
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


def packed(inputs: Mapping[str, Any], name: str) -> Fitted:
    """Several arrays per sample, (n, ...) each, side by side in one.

    Raises:
        DataError: as :func:`tbft.packing.pack`, or values that are not finite.
    """
    arrays = {key: number_array(value, f"{name}, {key}") for key, value in inputs.items()}
    arrays = {
        key: finite_floats(a, f"{name}, {key}") if a.dtype.kind == "f" else a for key, a in arrays.items()
    }
    rows, packing = pack(arrays, name)
    return Fitted(rows, as_taken=True, packing=packing)


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
