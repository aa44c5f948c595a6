"""Names of classes, compared as they look, and labels as positions among them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tbft.errors import DataError, unknown

#: What people write where there is no label; some are real classes, so they are read as such.
_ABSENT = {
    "na",
    "n/a",
    "#n/a",
    "none",
    "null",
    "nil",
    "?",
    "-",
    "--",
    "unknown",
    "unlabeled",
    "unlabelled",
    "missing",
}
#: Join letters in some scripts, and so change how a word looks.
_JOINERS = "\u200c\u200d"
_SHOWN = 6


def normalized_name(name: str) -> str:
    """A class name in a form in which names that look the same are equal.

    Unicode NFC, every kind of blank as a plain one, none at the ends, nothing invisible.

    >>> normalized_name("cafe\\u0301\\u00a0au lait \\u200b")
    'café au lait'
    """
    text = unicodedata.normalize("NFC", str(name))
    seen = (c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")
    return "".join(" " if unicodedata.category(c) == "Zs" else c for c in seen).strip()


def class_positions(names: Sequence[str], among: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    """The position of each of `names` in `among`, compared as they look.

    Raises:
        DataError: a name that is not there, or one that is there twice.
    """
    known = [normalized_name(c) for c in among]
    positions = []
    for own in map(normalized_name, names):
        if own not in known:
            raise DataError(f"{where}: the model has no such class: {unknown('class', own, among)}")
        if known.count(own) > 1:
            raise DataError(
                f"{where}: two of the model's classes are named {own!r}; use labels that are numbers"
            )
        positions.append(known.index(own))
    if len(set(positions)) < len(positions):
        twice = next(n for n, p in zip(names, positions, strict=True) if positions.count(p) > 1)
        raise DataError(f"{where}: two of its classes are named {twice!r}; give each a name of its own")
    return np.array(positions, dtype=np.int64)


def twins_note(names: Iterable[str]) -> tuple[str, ...]:
    """A note on classes that may be one, as their names hardly differ.

    >>> twins_note(["red fox", "red_fox", "emu"])
    ('classes whose names differ only in case, spaces or punctuation are kept apart: red fox, red_fox',)
    """
    alike = defaultdict(list)
    for name in names:
        folded = re.sub(r"[\s_.\-]+", "", unicodedata.normalize("NFKC", name).casefold())
        alike[folded or name].append(name)
    twins = [", ".join(same) for same in alike.values() if len(same) > 1]
    if not twins:
        return ()
    more = f"; and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else ""
    shown = "; ".join(twins[:_SHOWN]) + more
    return (f"classes whose names differ only in case, spaces or punctuation are kept apart: {shown}",)


def absent_note(words: Sequence[str]) -> tuple[str, ...]:
    """A note on words that are read as classes and may stand for a label that is not there.

    >>> absent_note(["cat", "NA", "NA"])
    ('read as a class, but may mean that there is no label: NA (2); if so, leave these samples out',)
    """
    counts = Counter(word for word in words if word.casefold() in _ABSENT)
    if not counts:
        return ()
    shown = ", ".join(f"{word} ({count:,})" for word, count in counts.most_common(_SHOWN))
    return (f"read as a class, but may mean that there is no label: {shown}; if so, leave these samples out",)


def check_labels(labels: npt.NDArray[np.int64], class_names: Sequence[str], name: str) -> None:
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
        + ("; leave out samples without a label" if labels[at] == -1 else "")
    )


def numbered_from_one(count: int) -> str:
    """The message on labels 1 to `count` for a model of `count` outputs."""
    return (
        f"the labels are 1 to {count} for {count} classes, so they seem to be numbered from 1, and tbft "
        "numbers classes from 0: give --labels-from 1 (InputSpec(labels_from=1)), or subtract 1 from each"
    )
