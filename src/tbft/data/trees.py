"""What the folders of a tree mean: which of them are classes, and what the others say about a picture.

Every level of folders gets a role: ``class``, the name of an attribute, or ``*`` for none. Roles are taken
from a layout (``domain/class``) or from what is certain in the tree; anything else is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.folder_names import part_of
from tbft.data.levels import SEVERITY, Hints, Levels
from tbft.data.members import counted, some
from tbft.errors import DataError

Names = Sequence[str]

#: Higher numbers are ids, not class numbers.
_MOST_NUMBERED = 1000
_NUMBERED = re.compile(r"(?P<prefix>\D*)(?P<number>[0-9]+)")


@dataclass(frozen=True)
class Tree:
    """What a tree says about its pictures.

    Attributes:
        classes: the class folder of each picture.
        attributes: arrays, one value per picture.
        notes: what was assumed, a sentence each.
    """

    classes: tuple[str, ...]
    attributes: dict[str, npt.NDArray[Any]]
    notes: tuple[str, ...] = ()


def interpret(paths: Sequence[tuple[str, ...]], hints: Hints, name: str) -> Tree:
    """Find classes and attributes from paths.

    Args:
        paths: of each picture below the root, its own name last.
        name: of the set, for messages.

    Raises:
        DataError: it is not certain which folders are the classes, or the layout does not fit.

    >>> tree = interpret([("train", "cat", "0.png"), ("val", "dog", "0.png")], Hints(), "pets")
    >>> tree.classes, tree.attributes["part"].tolist()
    (('cat', 'dog'), ['train', 'val'])
    """
    folders: Sequence[tuple[str, ...]] = [path[:-1] for path in paths]
    if hints.layout is not None:
        roles: Names = parse_layout(hints.layout)
        folders = _fitted(folders, paths, roles, name)
    else:
        roles = Levels(folders, paths, hints, name).roles()
    return _read_off(roles, folders, paths, hints)


def parse_layout(text: str) -> tuple[str, ...]:
    """The roles that a layout names.

    >>> parse_layout("domain/*/class")
    ('domain', '*', 'class')
    """
    roles = tuple(part.strip().strip("<>") for part in text.strip("/").split("/"))
    if roles[-1:] == ("file",):
        roles = roles[:-1]
    named = [role for role in roles if role not in ("*", "**")]
    if named.count("class") != 1 or len(set(named)) < len(named) or "**" in roles[:-1] or "" in named:
        raise DataError(
            f"layout {text!r}: name each level of folders from the top, class exactly once, other names for "
            "attributes, * for a level that says nothing, ** at the end for any deeper ones: domain/class"
        )
    return roles


def _fitted(
    folders: Sequence[tuple[str, ...]], paths: Sequence[tuple[str, ...]], roles: Names, name: str
) -> Sequence[tuple[str, ...]]:
    """Folders cut to the levels that a layout names; a folder around everything is passed over."""
    deeper = roles[-1] == "**"
    depth = len(roles) - deeper
    while all(len(f) > depth for f in folders) and len({f[0] for f in folders}) == 1 and not deeper:
        folders = [f[1:] for f in folders]
    wrong = [i for i, f in enumerate(folders) if len(f) < depth or (len(f) > depth and not deeper)]
    if wrong:
        raise DataError(
            f"{name}: the layout {'/'.join(roles)} does not fit {counted(len(wrong), 'picture')}, such as "
            f"{'/'.join(paths[wrong[0]])}; ** at its end takes any deeper folders"
        )
    return [f[:depth] for f in folders]


def _read_off(
    roles: Names, folders: Sequence[tuple[str, ...]], paths: Sequence[tuple[str, ...]], hints: Hints
) -> Tree:
    columns = {role: [f[i] for f in folders] for i, role in enumerate(roles) if role not in ("*", "**")}
    classes = tuple(columns.pop("class"))
    notes = []
    if "part" in columns and hints.layout is None:
        columns["part"] = _part_names(columns["part"], hints.where.get("part", ()))
    for role, column in columns.items():
        values = Counter(column)
        counts = some((f"{v} ({n:,})" for v, n in sorted(values.items())), 8)
        choice = "" if role in hints.where else f"; choose with --where {role}=NAME"
        notes.append(f"folders give the {role}: {counts}{choice}")
    attributes: dict[str, npt.NDArray[Any]] = {role: np.array(column) for role, column in columns.items()}
    if "severity" in columns:
        matches = [SEVERITY.fullmatch(value) for value in columns["severity"]]
        if all(matches):
            attributes["severity"] = np.array([int(m[1]) for m in matches if m])
    if {"severity", "corruption"} & columns.keys():
        attributes["picture"] = _same_photo(classes, paths)
    if "*" in roles:
        passed = sorted({f[i] for f in folders for i, role in enumerate(roles) if role == "*"})
        notes.append(f"folders that say nothing about a {hints.noun}: {some(passed)}")
    return Tree(classes, attributes, tuple(notes))


def _part_names(column: Names, wanted: Collection[str]) -> list[str]:
    """``train``, ``val`` or ``test``; as the folders are named if that is how one was asked for."""
    if set(wanted) & set(column):
        return list(column)
    return [part_of(value) or value for value in column]


def _same_photo(classes: Names, paths: Sequence[tuple[str, ...]]) -> npt.NDArray[np.int64]:
    """A number for each photo, the same for its copies: files of one class and one name."""
    numbers: dict[tuple[str, str], int] = {}
    keys = ((c, path[-1].rpartition(".")[0] or path[-1]) for c, path in zip(classes, paths, strict=True))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def ordered_classes(
    folders: Collection[str], labels_from: int = 0
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class folders in the order of their labels, and notes on it.

    Where all of them are numbers, the number is the label: from 0, or from 1 if that is the first and none
    is absent or `labels_from` says so. Absent ones then are classes without pictures. Numbers from
    1,000 on, and numbers behind a common word, are names in numeric order.

    >>> ordered_classes({"10", "9", "8"}, labels_from=1)[0][6:]
    ('7', '8', '9', '10')
    >>> ordered_classes({"c10", "c9"})[0]
    ('c9', 'c10')
    """
    names = sorted(set(folders))
    matches = [_NUMBERED.fullmatch(n) for n in names]
    numbers = [int(m["number"]) for m in matches if m]
    prefixes = {m["prefix"] for m in matches if m}
    if None in matches or len(prefixes) > 1 or len(set(numbers)) < len(names):
        return tuple(names), ()
    alphabetical, names = names, [name for _, name in sorted(zip(numbers, names, strict=True))]
    notes: tuple[str, ...] = ()
    if names != alphabetical:
        notes = (f"class folders are in numeric order, not in alphabetical: {some(names)}",)
    if prefixes == {""} and max(numbers) < _MOST_NUMBERED:
        every, more = _numbered_classes(names, labels_from)
        return every, (*notes, *more)
    return tuple(names), notes


def _numbered_classes(names: Sequence[str], labels_from: int) -> tuple[tuple[str, ...], list[str]]:
    """Classes by the number that is the name of the folder, absent ones included."""
    numbers = [int(n) for n in names]
    first = 1 if numbers[0] > 0 and (labels_from == 1 or numbers == list(range(1, len(numbers) + 1))) else 0
    width = len(names[0]) if len({len(n) for n in names}) == 1 else 0
    known = dict(zip(numbers, names, strict=True))
    every = tuple(known.get(n, f"{n:0{width}}") for n in range(first, numbers[-1] + 1))
    absent = [name for name in every if name not in names]
    if not absent and first == 0:
        return every, []
    noted = f"class folders are numbers: {names[-1]} has the label {len(every) - 1}"
    if absent:
        noted += f"; classes without pictures: {some(absent)}"
        noted += " (--labels-from 1 if they are numbered from 1)" if numbers[0] > 0 == first else ""
    return every, [noted]
