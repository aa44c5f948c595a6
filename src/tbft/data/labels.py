"""Labels as people have them: numbers, words, columns, one-hot rows; each read as what it is, or refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.class_names import absent_note, class_positions, normalized_name, twins_note
from tbft.data.label_values import as_text, one_label_each, refuse_missing, typed_values
from tbft.errors import DataError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

#: Without class names, a label from here on is taken for something else, such as an id.
MAX_CLASSES = 100_000

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: Texts that tables and scripts write where there is no label.
_MISSING = {"", "nan", "NaN", "<NA>"}


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as class numbers.

    Attributes:
        indices: ``int64`` (n,), each the position of a name in `class_names`.
        class_names: what the numbers mean.
        notes: what was assumed.
    """

    indices: Indices
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def parse_labels(values: Any, name: str, class_names: Sequence[str] | None = None, first: int = 0) -> Labels:
    """Read labels in any usual form.

    Args:
        values: class numbers (n,) or (n, 1), one-hot rows (n, classes), booleans, words as text or bytes,
            or numbers written as text; as an array, a tensor or a list.
        name: of the set, for messages.
        class_names: those that numbers or words refer to; default: the numbers, or the words in
            alphabetical order.
        first: the number of the first class, 0 or 1.

    Raises:
        DataError: missing or fractional labels, more than one class a sample, or no such class.

    >>> parse_labels(["dog", "cat", "dog"], "pets").indices
    array([1, 0, 1])
    """
    names = None if class_names is None else tuple(str(c) for c in class_names)
    if not len(values):
        raise DataError(f"{name}: there are no samples in it")
    array, columns = one_label_each(typed_values(values, name), name)
    if columns is not None and names is not None and columns != len(names):
        raise DataError(
            f"{name}: one-hot rows of {columns} classes, but there are {len(names)}: {', '.join(names)}"
        )
    if columns is not None:
        return _by_number(array.astype(np.int64), name, names or tuple(str(i) for i in range(columns)), 0)
    if array.dtype.kind in "SU":
        words = _words(array, name)
        if not all(_NUMBER.fullmatch(word) for word in words) or set(words) <= set(names or ()):
            return _by_name(words, name, names)
        array = np.array([float(word) for word in words])
    return _by_number(_whole(array, name), name, names, first)


def check_labels(labels: Indices, class_names: Sequence[str], name: str) -> None:
    """Raise DataError if a label is not the index of a class."""
    count = len(class_names)
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if not len(wrong):
        return
    if set(np.unique(labels).tolist()) == {-1, 1}:
        raise DataError(f"{name}: the labels are -1 and 1; number the classes from 0: (labels + 1) // 2")
    if labels.min() == 1 and labels.max() == count:
        raise DataError(f"{name}: {numbered_from_one(count)}")
    at = int(wrong[0])
    raise DataError(
        f"{name}: {len(wrong)} labels are out of range: sample {at} has label {int(labels[at])}, "
        f"but there are {count} classes (0 to {count - 1})"
        + ("; leave samples without a label out" if labels[at] == -1 else "")
    )


def numbered_from_one(count: int) -> str:
    """What to say of labels 1 to `count` for a model of `count` outputs."""
    return (
        f"the labels are 1 to {count} for {count} classes, so they seem to be numbered from 1, and tbft "
        "numbers classes from 0: give --labels-from 1 (InputSpec(labels_from=1)), or subtract 1 from each"
    )


def targets_of(values: Any, name: str) -> Array | None:
    """Targets of another task than classification, ``float32`` (n, ...); None if the values are classes.

    Whole numbers in one column, booleans and words are classes; floats and several numbers a sample are
    targets.

    Raises:
        DataError: a value that is missing or not finite.
    """
    typed = typed_values(values, name)
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


def _by_name(words: list[str], name: str, names: tuple[str, ...] | None) -> Labels:
    if {word.casefold() for word in words} <= {"true", "false"} and not set(words) <= set(names or ()):
        words = [word.capitalize() for word in words]  # as tables of different programs write them
    found = sorted(set(words))
    notes: tuple[str, ...] = ()
    if names is None:
        names = tuple(found)
        numbered = f"the classes are numbered in alphabetical order: {_listed(names)}"
        notes = (numbered, *absent_note(words))
    position = dict(zip(found, class_positions(found, names, name).tolist(), strict=True))
    indices = np.array([position[word] for word in words], dtype=np.int64)
    return Labels(indices, names, (*notes, *twins_note(found)))


def _by_number(numbers: Indices, name: str, names: tuple[str, ...] | None, first: int) -> Labels:
    if (
        names is not None
        and _are_other_numbers(names)
        and {str(i) for i in set(numbers.tolist())} <= set(names)
    ):
        position = {int(c): i for i, c in enumerate(names)}
        note = f"labels are matched by name to the classes {_listed(names)}"
        return Labels(np.array([position[i] for i in numbers.tolist()], dtype=np.int64), names, (note,))
    notes: tuple[str, ...] = ()
    if first:
        if numbers.min() < first:
            raise DataError(
                f"{name}: there is a label {int(numbers.min())}, so the classes are not numbered from 1"
            )
        numbers = numbers - first
        notes = (
            f"labels {first} to {int(numbers.max()) + first} are read as classes 0 to {int(numbers.max())}",
        )
    if names is None:
        if numbers.max() >= MAX_CLASSES:
            raise DataError(
                f"{name}: label {int(numbers.max())} cannot be a class number; number the classes from 0"
            )
        names = tuple(str(i) for i in range(int(numbers.max()) + 1))
    check_labels(numbers, names, name)
    if not first and numbers.min() == 1:
        notes += (
            "class 0 has no sample (are the labels numbered from 1? then give --labels-from 1, "
            "InputSpec(labels_from=1))",
        )
    return Labels(numbers, names, notes)


def _are_other_numbers(names: Sequence[str]) -> bool:
    """Are the names whole numbers, but not those of the positions?"""
    return all(n.isdecimal() for n in names) and [int(n) for n in names] != list(range(len(names)))


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


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{i} {n}" for i, n in enumerate(names[:6]))
    return shown + (f", ... ({len(names)} classes)" if len(names) > 6 else "")
