"""Tables that name pictures, ``file,label[,subject,...]``: which they are, and what their columns mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tbft.data.file_kinds import RECORDINGS, picture_suffixes
from tbft.data.json_tables import json_tables
from tbft.data.keys import LABEL_NAMES
from tbft.data.members import Member, printable
from tbft.data.spec import InputSpec
from tbft.data.tables import Table
from tbft.errors import DataError, unknown

FILE_COLUMNS = (
    "file", "filename", "path", "filepath", "image", "imagefile", "imagename", "imagepath", "imageid", "img",
    "imgpath", "picture", "photo", "audio", "audiofile", "recording", "wav", "wavfile", "slicefilename",
)  # fmt: skip
LABEL_COLUMNS = (
    *(re.sub(r"[^a-z]", "", name) for name in LABEL_NAMES if name != "arr_1"),
    "classname", "labelname", "categoryname", "species", "breed", "diagnosis", "dx", "activity", "emotion",
    "gesture", "grade", "groundtruth", "gt",
)  # fmt: skip
_LOOKED_AT = 20
_PLAIN_BIT, _PLAIN_ONE = re.compile(r"[01](\.0*)?"), re.compile(r"1(\.0*)?")


@dataclass(frozen=True)
class Listed:
    """A table that names pictures.

    Attributes:
        table: its rows.
        files: position of the column of files.
        place: folder of the table below the root of the set, as its parts.
        class_names: the classes in order, where the table gives them.
        notes: what was left out of it.
    """

    table: Table
    files: int
    place: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_usual_label(self) -> bool:
        """Whether a column is called what columns of labels usually are."""
        return self.table.named and any(_plain(column) in LABEL_COLUMNS for column in self.table.columns)


class PictureIndex:
    """Finds pictures by what tables call them: a path, its end, or one of these without the suffix."""

    def __init__(self, pictures: Sequence[Member]) -> None:
        self.count = len(pictures)
        self._whole: dict[str, int | None] = {}
        self._ends: dict[str, int | None] = {}
        for stems in (False, True):  # a name with its suffix comes before another one without
            whole: dict[str, int | None] = {}
            ends: dict[str, int | None] = {}
            for i, member in enumerate(pictures):
                parts = member.parts
                if stems:
                    parts = (*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1])
                _add(whole, "/".join(parts), i)
                for start in range(1, len(parts)):
                    _add(ends, "/".join(parts[start:]), i)
            self._whole = {**whole, **self._whole}
            self._ends = {**ends, **self._ends}

    def find(self, cell: str, place: tuple[str, ...] = ()) -> int | None:
        """Position of the picture that a cell names; None if there is none, or if several may be meant.

        Args:
            place: folder of the table, from which paths in it may start.
        """
        parts = tuple(printable(p) for p in cell.replace("\\", "/").split("/") if p not in ("", "."))
        for wanted in (place + parts, parts):
            if (found := self._whole.get("/".join(wanted))) is not None:
                return found
        if (found := self._ends.get("/".join(parts))) is not None:
            return found
        above = ("/".join(parts[start:]) for start in range(1, len(parts)))  # from further up than the set
        return next((i for end in above if (i := self._whole.get(end)) is not None), None)

    def names_several(self, cell: str) -> bool:
        """Whether a cell names no single picture because it names several."""
        name = "/".join(printable(p) for p in cell.replace("\\", "/").split("/") if p not in ("", "."))
        return any(name in known and known[name] is None for known in (self._whole, self._ends))


def _add(found: dict[str, int | None], name: str, i: int) -> None:
    found[name] = None if name in found else i


def of_json(member: Member, index: PictureIndex) -> Listed | None:
    """The table in a ``.json`` or ``.jsonl`` that names pictures; None if it does not."""
    for candidate in json_tables(member):
        place = member.parts[:-1]
        head = candidate.file_names[:_LOOKED_AT]
        if head and 2 * sum(index.find(name, place) is not None for name in head) >= len(head):
            table, class_names, notes = candidate.table()
            return Listed(table, 0, place, class_names, notes)
    return None


def with_files(table: Table, index: PictureIndex, place: tuple[str, ...] = ()) -> Listed | None:
    """The table with the column that names pictures, if most of its first rows do."""
    if table.named and any(index.find(c, place) is not None for c in table.columns):
        table = table.without_names()
    head = table.head()
    hits = [sum(index.find(row[c], place) is not None for row in head) for c in range(len(table.columns))]
    best = int(np.argmax(hits))
    return Listed(table, best, place) if head and hits[best] * 2 >= len(head) else None


def with_named_files(table: Table) -> Listed | None:
    """The table with the column that should name pictures, by its own name or by the suffixes in it."""
    head = table.head()
    for c, column in enumerate(table.columns):
        in_name = table.named and _plain(column) in FILE_COLUMNS
        if in_name or any(Path(row[c]).suffix.lower() in picture_suffixes() | RECORDINGS for row in head):
            return Listed(table, c)
    return None


def label_columns(listed: Listed, spec: InputSpec) -> list[int] | None:
    """Positions of the column of labels, or of the columns of one-hot rows; None if nothing says which.

    Raises:
        DataError: the named column is not there, or several have usual names.
    """
    table = listed.table
    others = [c for c in range(len(table.columns)) if c != listed.files]
    wanted = (spec.keys or {}).get("labels")
    if wanted is not None:
        if wanted not in table.columns:
            raise DataError(f"{table.name}: {unknown('column', wanted, table.columns)}")
        return [table.columns.index(wanted)]
    usual = [c for c in others if table.named and _plain(table.columns[c]) in LABEL_COLUMNS]
    if len(usual) > 1:
        names = " or ".join(table.columns[c] for c in usual)
        raise DataError(f"{table.name}: the label may be {names}; say which: --keys labels=COLUMN")
    if usual:
        return usual
    if len(others) == 1 or not table.named:
        return others[:1]
    return others if _are_one_hot(table, others) else None


def _are_one_hot(table: Table, columns: Sequence[int]) -> bool:
    """Whether each of the first rows has a single 1 among zeros in these columns."""
    head = [[row[c] for c in columns] for row in table.head()]
    return len(columns) > 1 and all(
        sum(_PLAIN_ONE.fullmatch(cell) is not None for cell in row) == 1
        and all(_PLAIN_BIT.fullmatch(cell) for cell in row)
        for row in head
    )


def _plain(name: str) -> str:
    """A column's name in lower case, without anything but letters."""
    return re.sub(r"[^a-z]", "", name.lower())
