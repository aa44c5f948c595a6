"""Tables of numbers: a row per sample, with a column of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tbft.data.columns import GROUP_WORDS, TIME_WORDS, rank
from tbft.data.listed import LABEL_COLUMNS
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.tables import Table, column_array, label_cells
from tbft.errors import DataError, unknown

#: Columns that number the rows, or say what they are used for.
_ABOUT = {
    "", "index", "idx", "id", "row", "rowid", "sample", "sampleid", "unnamed",
    "fold", "split", "part", "istest", "istrain",
}  # fmt: skip
#: With thousands separators, percentages, amounts of money, hexadecimal numbers.
_OTHER_NOTATION = re.compile(
    r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}(\.\d{3}){2,}|[\d.,]+ ?[%$€£]|[$€£] ?[\d.,]+|0x[\da-f]+",
    re.IGNORECASE,
)
_PIXEL = re.compile(r"(pixel|px|p)[_ ]?\d+", re.IGNORECASE)


def read_features(table: Table, spec: InputSpec) -> Samples:
    """Samples of a table whose columns are numbers, one of them the label.

    Columns of text, and those whose names say that they number the rows, or give groups, times or parts,
    become attributes; the others are the inputs (n, columns), in their order. Pixels that fill a square
    become gray pictures.

    Raises:
        DataError: nothing says which column the label is, or a cell is empty or not a number.
    """
    label = _label_column(table, spec)
    attributes = _attribute_columns(table, label)
    features = [c for c in range(len(table.columns)) if c != label and c not in attributes]
    if not features:
        raise DataError(
            f"{table.name}: besides the label it has no columns of numbers, and it names no pictures"
        )
    words, others, inputs = [], [], []
    signs: dict[str, str] = {}  # how decimals are written, with an example
    for line, cells in table.rows():
        words.append(cells[label])
        others.append([cells[c] for c in attributes])
        numbers = [cells[c] for c in features]
        inputs.append(_numbers(numbers, line, table))
        signs |= {sign: cell for cell in numbers for sign in ".," if sign in cell and sign not in signs}
    columns = zip(*others, strict=True) if attributes else ()
    more = {
        table.columns[c] or "index": column_array(column, table.separator != ",")
        for c, column in zip(attributes, columns, strict=True)
    }
    if len(signs) > 1:
        raise DataError(
            f"{table.name}: it has numbers with a comma ({signs[',']}) and with a point ({signs['.']}), of "
            "which one may separate thousands; write all of them alike, such as 1500.5"
        )
    note = f"the inputs are the columns {_listed([table.columns[c] for c in features])}; the label is "
    note += table.columns[label] + (f"; attributes: {', '.join(more)}" if more else "")
    if "," in signs:
        note += f"; commas in numbers are read as decimal signs ({signs[',']})"
    array = (
        _as_pictures(np.stack(inputs), [table.columns[c] for c in features]) if inputs else np.zeros((0, 1))
    )
    return make_samples(array, label_cells(words, table), None, more, table.name, spec).noted(note)


def _label_column(table: Table, spec: InputSpec) -> int:
    wanted = (spec.keys or {}).get("labels")
    if wanted is not None:
        if wanted not in table.columns:
            raise DataError(f"{table.name}: {unknown('column', wanted, table.columns)}")
        return table.columns.index(wanted)
    usual = [c for c, name in enumerate(table.columns) if re.sub("[^a-z]", "", name.lower()) in LABEL_COLUMNS]
    if table.named and len(usual) == 1:
        return usual[0]
    if not table.named:
        last = len(table.columns) - 1
        raise DataError(
            f"{table.name}: its first row has no names; say which column the label is, counted from 0: "
            f"--keys labels={last} for the last one"
        )
    which = f"may be {' or '.join(table.columns[c] for c in usual)}" if usual else "has no usual name"
    raise DataError(
        f"{table.name}: the column of labels {which}; say it: --keys labels=COLUMN ({_listed(table.columns)})"
    )


def _attribute_columns(table: Table, label: int) -> list[int]:
    """Positions of columns that are not inputs: text, numbers of rows, groups, times."""
    head = table.head()
    found = []
    for c, name in enumerate(table.columns):
        plain = re.sub("[^a-z]", "", name.lower())
        known = plain in _ABOUT or rank(name, GROUP_WORDS) is not None or rank(name, TIME_WORDS) is not None
        is_known = table.named and known and not _PIXEL.fullmatch(name)
        if c != label and (is_known or not _are_numbers([row[c] for row in head], table, name)):
            found.append(c)
    return found


def _are_numbers(cells: Sequence[str], table: Table, name: str) -> bool:
    """Whether most of the first cells of a column are numbers; then the others are mistakes.

    Raises:
        DataError: they are, in a notation that is not read.
    """
    filled = [cell for cell in cells if cell]
    if table.separator != ",":
        filled = [cell.replace(",", ".") for cell in filled]
    if filled and all(_OTHER_NOTATION.fullmatch(cell) for cell in filled):
        raise DataError(
            f"{table.name}: the column {name} holds numbers in another notation, {filled[0]!r}; write them "
            "as 1500 or 0.5, or leave the column out"
        )
    return 2 * sum(map(_is_number, filled)) > len(filled)


def _numbers(cells: Sequence[str], line: int, table: Table) -> npt.NDArray[np.float64]:
    if table.separator != ",":
        cells = [c.replace(",", ".") for c in cells]
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        bad = next(c for c in cells if not _is_number(c))
        what = f"{bad!r} is not a number" if bad else "a cell is empty"
        raise DataError(
            f"{table.name}: line {line}: {what}; fill it in, leave the row out, or name the column of labels "
            "with --keys labels=COLUMN"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _as_pictures(inputs: npt.NDArray[np.float64], names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Pixels by number as pictures (n, 1, side, side), if they fill a square."""
    side = round(len(names) ** 0.5)
    if side * side != len(names) or side < 4 or not all(_PIXEL.fullmatch(n) for n in names):
        return inputs
    return inputs.reshape(-1, 1, side, side)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(
        n or "(no name)" for n in (names if len(names) <= 6 else [*names[:4], "...", names[-1]])
    )
    return f"{shown} ({len(names)})"
