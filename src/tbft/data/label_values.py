"""Labels as arrays, out of whatever holds them: tensors, lists, columns, one-hot rows, objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tbft.data.values import numpy_of
from tbft.errors import DataError

Array = npt.NDArray[Any]


def typed_values(values: Any, name: str) -> Array:
    """An array of numbers, booleans or text, of any shape."""
    if isinstance(values, Tensor):
        return numpy_of(values)
    if isinstance(values, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(values).reshape(len(values), -1)
        refuse_missing(np.asarray(masked.any(axis=1)), "masked", name)
    if hasattr(values, "__array__"):  # an array, or a column of pandas
        values = np.asarray(values)
    if not isinstance(values, np.ndarray) or values.dtype == object:
        return _typed_items([plain_label(v) for v in values], name)
    if values.dtype.kind not in "biufSU":
        raise DataError(f"{name}: labels have to be class numbers or names, not {values.dtype}")
    return values


def one_label_each(array: Array, name: str) -> tuple[Array, int | None]:
    """Labels (n,), and the number of classes where one-hot rows tell it."""
    if array.ndim > 1 and array.size == len(array):
        return array.reshape(-1), None
    if array.ndim == 1:
        return array, None
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: labels of shape {array.shape}; give one class number or name a sample, (n,)"
        )
    if array.dtype.kind == "f":
        refuse_missing(np.asarray(np.isnan(array).any(axis=1)), "NaN", name)
    ones = (array == 1).sum(axis=1)
    if ((array == 0) | (array == 1)).all() and (ones == 1).all():
        return array.argmax(axis=1), array.shape[1]
    if ((array == 0) | (array == 1)).all():
        at = int(np.flatnonzero(ones != 1)[0])
        raise DataError(
            f"{name}: sample {at} has {int(ones[at])} classes, and a classifier takes one a sample; for "
            "several labels a sample give loss=, such as binary_cross_entropy_with_logits"
        )
    if array.min() >= 0 and np.allclose(array.sum(axis=1), 1, atol=1e-3):
        raise DataError(f"{name}: labels are shares of {array.shape[1]} classes; take labels.argmax(1)")
    raise DataError(
        f"{name}: labels of shape {array.shape} that are not one-hot rows; give one class number a sample, "
        "(n,): for scores, labels.argmax(1)"
    )


def plain_label(value: Any) -> Any:
    """One label as a plain value: a number out of 0-d and one-element arrays and tensors, else as it is."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (list, tuple)) and all(isinstance(v, (bool, int, float, np.number)) for v in value):
        value = np.array(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.item() if value.size == 1 else value
    return value


def refuse_missing(absent: Array, what: str, name: str) -> None:
    if absent.any():
        raise DataError(
            f"{name}: {int(absent.sum())} of {len(absent)} labels are missing ({what}), the first is that of "
            f"sample {int(np.flatnonzero(absent)[0])}; label these samples or leave them out"
        )


def as_text(value: Any, name: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataError(f"{name}: the label {value!r} is not UTF-8 text; decode the labels first") from None


def _typed_items(items: list[Any], name: str) -> Array:
    absent = [v is None or (isinstance(v, float) and v != v) or type(v).__name__ == "NAType" for v in items]
    refuse_missing(np.array(absent, dtype=bool), "None or NaN", name)
    if any(isinstance(v, (str, bytes)) for v in items):
        return np.array([as_text(v, name) for v in items], dtype=str)
    try:
        array = np.array(items)
    except ValueError:
        raise DataError(f"{name}: labels of mixed shapes; give one class number or name a sample") from None
    if array.dtype.kind not in "biuf":
        kinds = ", ".join(sorted({type(v).__name__ for v in items})[:3])
        raise DataError(f"{name}: labels have to be class numbers or names, not {kinds}")
    return array
