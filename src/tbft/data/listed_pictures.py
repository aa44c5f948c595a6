"""Pictures with their labels in a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tbft.data.class_names import normalized_name
from tbft.data.conditions import Conditions
from tbft.data.labels import Labels, parse_labels
from tbft.data.listed import Listed, PictureIndex, label_columns
from tbft.data.media import decoder_of
from tbft.data.members import Listing, counted, printable, some
from tbft.data.samples import Samples, match_classes
from tbft.data.spec import InputSpec
from tbft.data.tables import column_array, label_cells
from tbft.errors import DataError

#: Files beside the pictures that name the classes, one per line.
_CLASS_FILES = {
    "classes.txt",
    "class_names.txt",
    "classnames.txt",
    "labels.txt",
    "names.txt",
    "categories.txt",
}

Rows = Sequence[list[str]]


def read_listed(
    listed: Listed, listing: Listing, name: str, spec: InputSpec, where: Conditions | None = None
) -> Samples:
    """The pictures that a table names, with its labels; its further columns become attributes.

    Args:
        listing: the files among which the pictures are.
        name: of the set.
        where: conditions that samples have to meet; of the table's columns, other pictures are not decoded.

    Raises:
        DataError: a file that is not there, one with two labels, or labels that are not classes.
    """
    table = listed.table
    columns = label_columns(listed, spec)
    if columns is None:
        names = ", ".join(c for i, c in enumerate(table.columns) if i != listed.files)
        raise DataError(
            f"{table.name}: nothing says which column the label is ({names}); say it: --keys labels=COLUMN"
        )
    rows, at, notes = _located(listed, listing, spec)
    rows, at, repeats = _once(rows, at, columns, table.name)
    labels = _labels(rows, columns, listed, listing, spec)
    attributes = {
        column: column_array([row[c] for row in rows], table.separator != ",")
        for c, column in enumerate(table.columns)
        if c not in (listed.files, *columns)
    }
    attributes["file"] = np.array([listing.pictures[i].name for i in at])
    every = Samples(
        np.zeros(len(at)), labels.indices, labels.class_names, np.arange(len(at)), attributes, name
    )
    chosen = every.where({key: c for key, c in (where or {}).items() if key in attributes})
    found = decoder_of(listing)([listing.pictures[at[i]] for i in chosen.ids], spec, name)
    note = (
        *notes,
        *repeats,
        *labels.notes,
        *_unlisted(listing, at, table.name),
        *listed.notes,
        *listing.notes,
        *found.notes,
    )
    kept = chosen.subset(found.kept)
    made = Samples(
        found.inputs,
        kept.labels,
        kept.class_names,
        kept.ids,
        kept.attributes,
        name,
        note,
        preprocessing=spec.preprocessing,
    )
    return match_classes(made, spec.class_names)


def _located(
    listed: Listed, listing: Listing, spec: InputSpec
) -> tuple[list[list[str]], list[int], tuple[str, ...]]:
    """The rows whose pictures are there, and the positions of these.

    Raises:
        DataError: pictures that are not there, unless damaged ones are to be left out.
    """
    index = PictureIndex(listing.pictures)
    rows, at, absent, several = [], [], [], False
    for line, cells in listed.table.rows():
        found = index.find(cells[listed.files], listed.place)
        if found is None:
            several = several or index.names_several(cells[listed.files])
            absent.append(f"{printable(cells[listed.files]) or 'no name'} (line {line})")
        else:
            rows.append(cells)
            at.append(found)
    if not absent:
        return rows, at, ()
    problem = f"{listed.table.name} names {counted(len(absent), listing.noun)} not found in {listing.name}"
    if spec.skip_damaged and rows:
        return rows, at, (f"{problem}, left out: {some(absent)}",)
    remedy = "write their folders, as several have these names" if several else "put them there"
    raise DataError(f"{problem}: {some(absent, 5)}; {remedy}, or give --skip-damaged to leave them out")


def _once(
    rows: Rows, at: Sequence[int], columns: Sequence[int], name: str
) -> tuple[list[list[str]], list[int], tuple[str, ...]]:
    """Every picture once, with a note on those that several rows name.

    Raises:
        DataError: rows that give one picture different labels.
    """
    first: dict[int, list[str]] = {}
    repeated = 0
    for row, i in zip(rows, at, strict=True):
        before = first.setdefault(i, row)
        repeated += before is not row
        if [before[c] for c in columns] != [row[c] for c in columns]:
            labels = " and ".join(printable(" ".join(r[c] for c in columns)) for r in (before, row))
            raise DataError(f"{name}: rows give one picture two labels, {labels}: {printable(' '.join(row))}")
    notes = (
        (f"{name} names pictures more than once: {counted(repeated, 'row')} left out",) if repeated else ()
    )
    return list(first.values()), list(first), notes


def _labels(rows: Rows, columns: Sequence[int], listed: Listed, listing: Listing, spec: InputSpec) -> Labels:
    table = listed.table
    if len(columns) > 1:
        names = [table.columns[c] for c in columns]
        return parse_labels(np.array([[float(row[c]) for c in columns] for row in rows]), table.name, names)
    words = label_cells([row[columns[0]] for row in rows], table)
    own = [normalized_name(c) for c in listed.class_names or ()] or _class_names(listing, table.name)
    numbers = all(re.fullmatch(r"\d+", word) for word in words)
    fits = own is not None and (numbers or set(map(normalized_name, words)) <= set(own))
    return parse_labels(words, table.name, own if fits else spec.class_names, spec.labels_from)


def _class_names(listing: Listing, table: str) -> list[str] | None:
    """From a file beside the pictures, one class per line, numbered or not."""
    for member in listing.others:
        if member.parts[-1].lower() not in _CLASS_FILES or member.name == table:
            continue
        lines = [line.strip() for line in member.read(-1).decode("utf-8-sig", "replace").splitlines()]
        lines = [line for line in lines if line]
        numbered = [re.fullmatch(r"\d+[\s:,.]+(\S.*)", line) for line in lines]
        names = [m[1] for m in numbered if m] if all(numbered) else lines
        if names:
            return [normalized_name(n) for n in names]
    return None


def _unlisted(listing: Listing, at: Sequence[int], name: str) -> tuple[str, ...]:
    named = set(at)
    left = [m.name for i, m in enumerate(listing.pictures) if i not in named]
    if not left:
        return ()
    return (f"{counted(len(left), listing.noun)} without a label in {name} left out: {some(left)}",)
