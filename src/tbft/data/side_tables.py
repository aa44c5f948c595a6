"""Tables beside pictures in class folders: not their labels, but what else is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from tbft.data.listed import Listed, PictureIndex, label_columns
from tbft.data.members import Listing, counted, some
from tbft.data.spec import InputSpec
from tbft.data.table_search import tables_of_pictures
from tbft.data.tables import column_array
from tbft.errors import DataError

Attributes = dict[str, npt.NDArray[Any]]


def side_columns(listing: Listing, spec: InputSpec) -> tuple[Attributes, tuple[str, ...]]:
    """The columns of tables that name the pictures, as attributes of all of them, and a note on each table.

    For pictures that no table names, numbers are NaN and texts are empty. Columns of labels are left out:
    the folders are the classes.
    """
    cells: dict[str, list[str]] = {}
    commas, notes = False, []
    index = PictureIndex(listing.pictures)
    for listed in tables_of_pictures(listing, index):
        table, labels = listed.table, _labels(listed, spec)
        used = [c for c in range(len(table.columns)) if c not in (listed.files, *labels)]
        if not table.named or not used:
            notes.append(f"labels are those of the folders; for those of {table.name}, give it as the set")
            continue
        named = _fill(cells, listed, used, index)
        commas |= table.separator != ","
        left, kind = len(listing.pictures) - named, counted(named, listing.noun)
        notes.append(
            f"{table.name} gives {some([table.columns[c] for c in used], 8)} for {kind}"
            + (f"; {left:,} are not in it" if left else "")
            + (f"; labels are those of the folders, not its {table.columns[labels[0]]}" if labels else "")
            + ("" if labels else "; labels are those of the folders (--keys labels=COLUMN to take a column)")
        )
        listing.others[:] = [m for m in listing.others if m.name != table.name]
    return {name: column_array(column, commas) for name, column in cells.items()}, tuple(notes)


def _labels(listed: Listed, spec: InputSpec) -> Sequence[int]:
    try:
        columns = label_columns(listed, spec) or []
    except DataError:  # several have usual names
        return []
    is_only_one = len(listed.table.columns) == 2
    return [] if is_only_one and not listed.has_usual_label else columns


def _fill(cells: dict[str, list[str]], listed: Listed, used: Sequence[int], index: PictureIndex) -> int:
    """Enter the rows of a table, and count the pictures that it names."""
    named = set()
    for _, row in listed.table.rows():
        at = index.find(row[listed.files], listed.place)
        if at is None:
            continue
        named.add(at)
        for c in used:
            column = cells.setdefault(listed.table.columns[c], [""] * index.count)
            column[at] = row[c]
    return len(named)
