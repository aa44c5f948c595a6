"""Labels as people have them: numbers, words, columns, one-hot rows; each read as what it is, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.class_names import absent_note, check_labels, class_positions, twins_note
from tbft.data.label_values import label_column
from tbft.errors import DataError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

#: What to do about whole numbers that are no classes, where there is a loss for targets.
AS_TARGETS = "if these are numbers to predict rather than classes, give them as floats"
#: Without class names, a label of this size is taken for something else, such as an id.
MAX_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as class numbers.

    Attributes:
        indices: ``int64`` (n,), each the position of a name in `class_names`.
        class_names: what the numbers mean.
        notes: what was assumed.
        targets: ``float32`` (n, ...) of another task, for which the indices are all zero; None: classes.
    """

    indices: Indices
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    targets: Array | None = None


def parse_labels(
    values: Any,
    name: str,
    class_names: Sequence[str] | None = None,
    first: int = 0,
    may_be_targets: bool = False,
) -> Labels:
    """Read labels in any usual form.

    Args:
        values: class numbers (n,) or (n, 1), one-hot rows (n, classes), booleans, words as text or bytes,
            or numbers written as text; as an array, a tensor or a list.
        name: of the set, for messages.
        class_names: those that numbers or words refer to; default: the numbers, or the words in
            alphabetical order.
        first: the number of the first class, 0 or 1.
        may_be_targets: floats, and several numbers per sample, are targets of another task.

    Raises:
        DataError: missing or fractional labels, more than one class per sample, or no such class.

    >>> parse_labels(["dog", "cat", "dog"], "pets").indices
    array([1, 0, 1])
    """
    names = None if class_names is None else tuple(str(c) for c in class_names)
    if not len(values):
        raise DataError(f"{name}: there are no samples in it")
    column = label_column(values, name, names or (), may_be_targets)
    if column.targets is not None:
        return Labels(column.numbers, ("targets",), (), column.targets)
    if column.width is not None and names is not None and column.width != len(names):
        raise DataError(
            f"{name}: one-hot rows of {column.width} classes, but there are {len(names)}: {', '.join(names)}"
        )
    if column.width is not None:
        names, first = names or tuple(str(i) for i in range(column.width)), 0
    if not column.words:
        labels = _by_number(column.numbers, name, names, first)
    else:
        labels = _by_name(column.words, name, names)
    try:
        check_labels(labels.indices, labels.class_names, name)
    except DataError as error:
        raise DataError(f"{error}; {AS_TARGETS}") if may_be_targets else error from None
    return labels


def _by_name(words: Sequence[str], name: str, names: tuple[str, ...] | None) -> Labels:
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
    if not first and numbers.min() == 1:
        notes += (
            "class 0 has no sample (are the labels numbered from 1? then give --labels-from 1, "
            "InputSpec(labels_from=1))",
        )
    return Labels(numbers, names, notes)


def _are_other_numbers(names: Sequence[str]) -> bool:
    """Whether the names are whole numbers, but not those of the positions."""
    return all(n.isdecimal() for n in names) and [int(n) for n in names] != list(range(len(names)))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{i} {n}" for i, n in enumerate(names[:6]))
    return shown + (f", ... ({len(names)} classes)" if len(names) > 6 else "")
