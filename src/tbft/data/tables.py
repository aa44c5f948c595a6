"""Tables of text: CSV, TSV and lists of files with labels, whatever separates their columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.keys import LABEL_NAMES
from tbft.errors import DataError

Array = npt.NDArray[Any]

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".lst")
#: In the order in which they are tried; a comma may be a decimal sign where something else separates.
_SEPARATORS = ("\t", ";", "|", ",")
#: Stands for blanks, in lists without quotes of which the last word of a line is the label.
_BLANKS = " "
_LOOKED_AT = 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        name: of the file, for messages.
        columns: their names; "0", "1", ... where the first row is a row like the others.
        named: whether the first row holds the names.
        text: the whole file.
        separator: of columns.
    """

    name: str
    columns: tuple[str, ...]
    named: bool
    text: str
    separator: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Number of the line in the file, from 1, and the cells, stripped; empty lines are passed over.

        Raises:
            DataError: a row that has more or fewer cells than there are columns.
        """
        lines = _lines(self.text, self.separator, self.name)
        for line, cells in islice(lines, int(self.named), None):
            while len(cells) > len(self.columns) and not cells[-1]:
                cells.pop()  # separators at the ends of lines, as spreadsheets leave them
            if len(cells) != len(self.columns):
                raise DataError(
                    f"{self.name}: line {line} has {len(cells)} cells, there are {len(self.columns)} columns"
                )
            yield line, cells

    def head(self) -> list[list[str]]:
        """The first rows."""
        return [cells for _, cells in islice(self.rows(), _LOOKED_AT)]

    def without_names(self) -> Table:
        """The same with its first row as a row like the others."""
        columns = tuple(str(i) for i in range(len(self.columns)))
        return Table(self.name, columns, False, self.text, self.separator)


def parse_table(raw: bytes, name: str) -> Table:
    """A table with the separator that its first lines agree on; the first row is taken for the names.

    Raises:
        DataError: no text, or no columns.
    """
    text, separator = _without_preamble(_decoded(raw, name))
    separator = separator or _separator(text)
    first = next(_lines(text, separator, name), None)
    if first is None:
        raise DataError(f"{name}: the table is empty")
    columns = tuple(first[1])
    if not columns[-1] and not any(cells[-1] for _, cells in _lines(text, separator, name)):
        columns = columns[:-1]
    if len(columns) < 2:
        raise DataError(f"{name}: it has one column; a table has a file and a label in each row")
    twice = {c for c in columns if columns.count(c) > 1}
    if twice & {*LABEL_NAMES, "file", "filename", "path", "image"}:
        raise DataError(f"{name}: several columns are named {', '.join(sorted(twice))}; rename them")
    named = not any(_NUMBER.fullmatch(c) for c in columns)
    table = Table(name, _told_apart(columns), True, text, separator)
    return table if named else table.without_names()


def table_of_rows(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of values, with names of its columns."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(rows)
    return Table(name, tuple(columns), True, out.getvalue(), ",")


def column_array(cells: Sequence[str], decimal_comma: bool = False) -> Array:
    """A column as whole numbers or floats where every cell is one (empty ones are NaN), else as text.

    Numbers that begin with zeros, as ids do, stay text.
    """
    texts = [c.replace(",", ".") if decimal_comma else c for c in cells]
    filled = [t for t in texts if t]
    if not filled or not all(_NUMBER.fullmatch(t) or t.lower() == "nan" for t in filled):
        return np.array(cells, dtype=str)
    if any(re.match(r"[+-]?0\d", t) for t in filled):
        return np.array(cells, dtype=str)
    if len(filled) == len(texts) and all(re.fullmatch(r"[+-]?\d{1,18}", t) for t in texts):
        return np.array([int(t) for t in texts], dtype=np.int64)
    return np.array([float(t) if t else np.nan for t in texts])


def label_cells(cells: Sequence[str], table: Table) -> list[str]:
    """Labels of a table; numbers with a decimal comma, where a comma does not separate, with a point."""
    is_number = table.separator != "," and all(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in cells)
    return [cell.replace(",", ".") for cell in cells] if is_number else list(cells)


def _decoded(raw: bytes, name: str) -> str:
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{name}: line {line} is not UTF-8 text; save the table as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"{name}: it is not a table of text")
    return text


def _told_apart(columns: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, the second `x` as `x.1`."""
    return tuple(
        f"{name}.{before}" if (before := list(columns[:i]).count(name)) else name
        for i, name in enumerate(columns)
    )


def _without_preamble(text: str) -> tuple[str, str]:
    """The text without comments above the table, and the separator that a first line `sep=;` names.

    Lines that are left out stay as empty ones, so that the numbers of lines are those of the file.
    """
    match = re.match(r"sep=(.)\s*?(\r\n|\r|\n)", text, re.IGNORECASE)
    separator, text = (match[1], "\n" + text[match.end() :]) if match else ("", text)
    signs = "".join(_SEPARATORS)
    comments = re.match(rf"(\s*#[^{signs}\r\n]*(\r\n|\r|\n))+", text)
    if comments:
        text = "\n" * len(comments[0].splitlines()) + text[comments.end() :]
    return text, separator


def _separator(text: str) -> str:
    """What splits the first lines into equally many columns, two or more; blanks if nothing does."""
    for separator in _SEPARATORS:
        if (width := _width(text, separator)) is not None and width > 1:
            return separator
    if _width(text, _BLANKS) == 2:
        return _BLANKS
    # Ragged: the most frequent one, whose rows then say which line is wrong.
    first = text.lstrip().partition("\n")[0]
    return max(_SEPARATORS, key=first.count) if any(s in first for s in _SEPARATORS) else _BLANKS


def _width(text: str, separator: str) -> int | None:
    """How many cells each of the first lines has; None if that differs."""
    try:
        counts = {len(cells) for _, cells in islice(_lines(text, separator, ""), _LOOKED_AT)}
    except DataError:  # it splits quoted cells
        return None
    return counts.pop() if len(counts) == 1 else None


def _lines(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number of each line that is not empty, and its cells, stripped.

    Raises:
        DataError: a quote that is not closed, or a cell that is too long.
    """
    if separator == _BLANKS:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, [part.strip() for part in line.strip().rsplit(None, 1)]
        return
    taken: list[str] = []  # lines of the current row

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    how: dict[str, Any] = {"delimiter": separator, "skipinitialspace": True}
    reader = csv.reader(lines(), **how)
    start = 1
    try:
        for cells in reader:
            if len(taken) > 1:  # a cell with line breaks, or a quote that swallows rows
                next(csv.reader(taken, strict=True, **how))
            taken.clear()
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
            start = reader.line_num + 1
    except csv.Error as error:
        is_long = "field limit" in str(error)
        what = "a cell is longer than 131,072 characters" if is_long else "a quote is not closed"
        raise DataError(f"{name}: line {start}: {what}; correct it, or leave that column out") from None
