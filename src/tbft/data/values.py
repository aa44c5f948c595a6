"""Arrays of numbers out of whatever holds them: tensors on any device, lists, columns; whole, or finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor

from tbft.errors import DataError

Array = npt.NDArray[Any]

#: Number of samples checked at a time.
_CHUNK = 1024


def numpy_of(tensor: Tensor) -> Array:
    """The values of a tensor on any device, in its own precision where NumPy has it, else in ``float32``."""
    tensor = tensor.detach().cpu()
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # floats of 16 or 8 bits
        return np.asarray(tensor.float().numpy())


def number_array(inputs: Any, name: str) -> Array:
    """An array of booleans, integers or floats; what is on disk stays there.

    Raises:
        DataError: not numbers, masked ones, or arrays of different shapes.
    """
    if isinstance(inputs, Tensor):
        try:
            array = numpy_of(inputs)
        except (NotImplementedError, RuntimeError) as error:  # a nested tensor, or one without data
            raise DataError(f"{name}: the tensor has no values that can be read: {error}") from error
    elif isinstance(inputs, np.ma.MaskedArray) and np.ma.is_masked(inputs):
        raise DataError(f"{name}: some inputs are masked; fill them in or leave them out: inputs.filled(0)")
    elif hasattr(inputs, "__array__"):  # a table of pandas, too
        array = inputs if isinstance(inputs, np.ndarray) else np.asarray(inputs)
    else:
        if any(isinstance(v, Image) for v in inputs):
            raise DataError(
                f"{name}: these are pictures of Pillow: give them with their labels as items, list(zip("
                "pictures, labels)), or as one array, numpy.stack([p.convert('RGB') for p in pictures])"
            )
        try:
            array = np.asarray([numpy_of(v) if isinstance(v, Tensor) else v for v in inputs])
        except (TypeError, ValueError):
            raise DataError(f"{name}: inputs of mixed shapes, or not numbers; make them one size") from None
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
