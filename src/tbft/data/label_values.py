"""Labels as arrays, out of whatever holds them: tensors, lists, columns, one-hot rows, objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tbft.data.class_names import normalized_name
from tbft.data.values import numpy_of
from tbft.errors import DataError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: Texts that tables and scripts write where there is no label.
_MISSING = {"", "nan", "NaN", "<NA>"}


class Column(NamedTuple):
    """One label per sample, as class numbers or as words.

    Attributes:
        numbers: (n,); empty where there are words.
        words: (n,); empty where there are numbers.
        width: the number of classes, for one-hot rows.
        targets: ``float32`` (n, ...) instead, of another task than classification; numbers are then zero.
    """

    numbers: Indices
    words: Sequence[str] = ()
    width: int | None = None
    targets: Array | None = None


def label_column(values: Any, name: str, names: Sequence[str] = (), may_be_targets: bool = False) -> Column:
    """One label per sample, out of whatever holds them.

    Args:
        name: of the set, for messages.
        names: of classes; texts that are among them are words, even if they are numbers.
        may_be_targets: floats, and several numbers per sample, are targets.

    Raises:
        DataError: missing or fractional labels, or more than one class per sample.
    """
    typed = typed_values(values, name)
    if may_be_targets and (targets := _targets(typed, name)) is not None:
        return Column(np.zeros(len(targets), np.int64), targets=targets)
    array, width = one_label_each(typed, name)
    if width is not None:
        return Column(array.astype(np.int64), width=width)
    if array.dtype.kind in "SU":
        words = _words(array, name)
        if not all(_NUMBER.fullmatch(word) for word in words) or set(words) <= set(names):
            return Column(np.zeros(0, np.int64), words)
        array = np.array([float(word) for word in words])
    return Column(_whole(array, name))


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
    """Labels (n,), and the number of classes, for one-hot rows."""
    if array.ndim > 1 and array.size == len(array):
        return array.reshape(-1), None
    if array.ndim == 1:
        return array, None
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: labels of shape {array.shape}; give one class number or name per sample, (n,)"
        )
    if array.dtype.kind == "f":
        refuse_missing(np.asarray(np.isnan(array).any(axis=1)), "NaN", name)
    ones = (array == 1).sum(axis=1)
    if ((array == 0) | (array == 1)).all() and (ones == 1).all():
        return array.argmax(axis=1), array.shape[1]
    if ((array == 0) | (array == 1)).all():
        at = int(np.flatnonzero(ones != 1)[0])
        raise DataError(
            f"{name}: sample {at} has {int(ones[at])} classes, and a classifier takes one per sample; for "
            "several labels per sample give loss=, such as binary_cross_entropy_with_logits"
        )
    if array.min() >= 0 and np.allclose(array.sum(axis=1), 1, atol=1e-3):
        raise DataError(f"{name}: labels are shares of {array.shape[1]} classes; take labels.argmax(1)")
    raise DataError(
        f"{name}: labels of shape {array.shape} that are not one-hot rows; give one class number per sample, "
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
        raise DataError(f"{name}: labels of mixed shapes; give one class number or name per sample") from None
    if array.dtype.kind not in "biuf":
        kinds = ", ".join(sorted({type(v).__name__ for v in items})[:3])
        raise DataError(f"{name}: labels have to be class numbers or names, not {kinds}")
    return array


def _targets(typed: Array, name: str) -> Array | None:
    """Targets of another task than classification, ``float32`` (n, ...); None if the values are classes.

    Whole numbers in one column, booleans and words are classes; floats and several numbers per sample are
    targets.

    Raises:
        DataError: a value that is missing or not finite.
    """
    column = typed.ndim == 1 or (typed.ndim == 2 and typed.shape[1] == 1)
    if typed.dtype.kind in "SU" or (typed.dtype.kind in "biu" and column):
        return None
    targets = typed.astype(np.float32)
    bad = ~np.isfinite(targets.reshape(len(targets), -1)).all(1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{name}: {int(bad.sum())} targets are missing or not finite, the first is of sample {first}; "
            "remove those samples"
        )
    return targets


def _words(array: Array, name: str) -> list[str]:
    words = [normalized_name(as_text(v, name)) for v in array.tolist()]
    refuse_missing(np.array([word in _MISSING for word in words]), "empty or nan", name)
    return words


def _whole(array: Array, name: str) -> Indices:
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{name}: label {array.max()} cannot be a class number; number the classes from 0")
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    refuse_missing(np.isnan(array), "NaN", name)
    fractional = np.flatnonzero(~(np.isfinite(array) & (array == np.rint(array)) & (np.abs(array) < 2**53)))
    if len(fractional):
        at = int(fractional[0])
        raise DataError(
            f"{name}: {len(fractional)} of {len(array)} labels are not whole numbers, the first is "
            f"{array[at]:.6g} of sample {at}; labels are class numbers from 0; for scores "
            "set thresholds yourself, for regression give loss="
        )
    return array.astype(np.int64)
