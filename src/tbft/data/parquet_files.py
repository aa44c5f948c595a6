"""Parquet, as Hugging Face's datasets keep pictures, sounds and their labels; read through an extra."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tbft.data.arrays import samples_of_arrays
from tbft.data.folder_names import part_of
from tbft.data.keys import LABEL_NAMES
from tbft.data.listed import Listed
from tbft.data.listed_pictures import read_listed
from tbft.data.listed_sources import read_table
from tbft.data.members import Listing, Member, by_kind, counted, some
from tbft.data.samples import Samples
from tbft.data.source import Source
from tbft.data.tables import table_of_rows
from tbft.errors import DataError, needs

SUFFIX = ".parquet"
#: Longer text is not an attribute.
_MAX_TEXT = 1000


@dataclass(frozen=True)
class _Frame:
    """The rows of all files.

    Attributes:
        columns: pyarrow's, by name; a list of single values for ``part``.
        class_names: what the numbers of the column of labels mean, if the files say so.
        notes: what was passed over.
    """

    columns: dict[str, Any]
    class_names: tuple[str, ...] | None
    notes: list[str] = field(default_factory=list)


def read_source(source: Source) -> Samples | None:
    """Samples of a ``.parquet``, or of a folder of them; files named after parts give the attribute `part`.

    A column of encoded pictures or sounds (bytes, or a struct with such) holds the inputs; where there is
    none, columns of lists, or of numbers. Of the others, one is the label, and single values are attributes.

    Raises:
        DataError: it is damaged, or its columns are not samples.
        MissingExtraError: the extra `parquet` is not installed.
    """
    files = _files(source)
    if not files:
        return None
    frame = _read(files, source)
    kinds = {key: _kind(column) for key, column in frame.columns.items()}
    encoded = [key for key, kind in kinds.items() if kind == "encoded"]
    if encoded:
        wanted = (source.spec.keys or {}).get("inputs", encoded[0])
        samples = _of_encoded(frame, wanted if wanted in encoded else encoded[0], kinds, source)
    elif "list" in kinds.values():
        arrays = {key: _array(column) for key, column in frame.columns.items() if kinds[key]}
        names = {"class_names": list(frame.class_names)} if frame.class_names else {}
        samples = samples_of_arrays({**arrays, **names}, source.spec, source.name).noted(*_left(kinds, []))
    else:
        used = [key for key, kind in kinds.items() if kind]
        cells = zip(*(_cells(frame.columns[key]) for key in used), strict=True)
        samples = read_table(table_of_rows(source.name, used, cells), source).noted(*_left(kinds, []))
    return samples.noted(*frame.notes)


def _files(source: Source) -> list[Member]:
    path, listing = source.path, source.listing
    if source.suffix == SUFFIX:
        return [Member((path.name,), lambda _: path.read_bytes())]
    if listing is None or listing.pictures:
        return []
    return [m for m in listing.others if m.suffix == SUFFIX]


def _read(files: Sequence[Member], source: Source) -> _Frame:
    with needs("pyarrow", "parquet"):
        import pyarrow
        import pyarrow.parquet
    tables = []
    for member in files:
        try:
            tables.append(pyarrow.parquet.read_table(pyarrow.BufferReader(member.read(-1))))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{source.name}: {member.name} is damaged, or not Parquet: {reason}") from error
    first = tables[0].schema
    for member, table in zip(files, tables, strict=True):
        if table.schema.names != first.names or table.schema.types != first.types:
            raise DataError(
                f"{source.name}: {member.name} has other columns than {files[0].name}; give one of them alone"
            )
    if len(set(first.names)) < len(first.names):
        raise DataError(f"{source.name}: several columns have one name; rename them")
    whole = pyarrow.concat_tables(tables)
    columns = {str(key): whole.column(i) for i, key in enumerate(whole.schema.names)}
    parts = [_part(member) for member in files]
    if None not in parts and "part" not in columns:
        columns["part"] = [p for p, table in zip(parts, tables, strict=True) for _ in range(len(table))]
    notes = []
    if source.listing is not None:
        others = [m for m in source.listing.others if m.suffix != SUFFIX]
        notes = [*source.listing.notes, *([f"passed over: {by_kind(others)}"] if others else [])]
    return _Frame(columns, _class_names(first.metadata or {}, source), notes)


def _part(member: Member) -> str | None:
    """The part that a file or its folder is named after: ``train-00000-of-00002.parquet``."""
    words = [re.split(r"[-_.0-9]", part)[0] for part in reversed(member.parts)]
    return next((found for word in words if (found := part_of(word))), None)


def _class_names(metadata: dict[bytes, bytes], source: Source) -> tuple[str, ...] | None:
    """The names that Hugging Face's features give to the numbers of the label."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        wanted = (source.spec.keys or {}).get("labels")
        named = {k: f["names"] for k, f in features.items() if isinstance(f, dict) and f.get("names")}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    keys = [wanted] if wanted else [key for key in named if key.lower() in LABEL_NAMES] or list(named)
    names = named.get(keys[0]) if len(keys) == 1 else None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names)) if isinstance(names, list) else None


def _kind(column: Any) -> str:
    """``encoded``: files as bytes; ``path``: files elsewhere; ``list``; ``single``: one value; or empty."""
    if isinstance(column, list):
        return "single"
    from pyarrow import types

    kind = column.type
    fields = {f.name: f.type for f in kind} if types.is_struct(kind) else {"bytes": kind}
    content, has_path = fields.get("bytes"), "path" in fields
    if content is not None and (types.is_binary(content) or types.is_large_binary(content)):
        return "path" if has_path and _bytes(column).null_count == len(column) else "encoded"
    if content is not None and has_path and types.is_null(content):
        return "path"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list"
    if types.is_nested(kind) or types.is_null(kind):
        return ""
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return "" if is_text and any(len(v or "") > _MAX_TEXT for v in column.to_pylist()) else "single"


def _of_encoded(frame: _Frame, key: str, kinds: dict[str, str], source: Source) -> Samples:
    """Pictures or sounds in the file itself, read as those of a table that names them."""
    column = frame.columns[key]
    members = [_member(i, content) for i, content in enumerate(_bytes(column))]
    absent = [m.name for m in members if not m.read(1)]
    if absent and not source.spec.skip_damaged:
        raise DataError(
            f"{source.name}: {counted(len(absent), 'row')} of {key} hold no bytes: {some(absent)}; leave "
            "them out, or give --skip-damaged"
        )
    is_sound = bool(members) and members[0].suffix == ".wav"
    listing = Listing(source.name, members, noun="recording" if is_sound else "picture")
    used = [k for k, kind in kinds.items() if kind == "single"]
    cells = zip((m.name for m in members), *(_cells(frame.columns[k]) for k in used), strict=True)
    table = table_of_rows(source.name, ["file of the row", *used], cells)
    listed = Listed(table, 0, (), frame.class_names, _left(kinds, [key, *used]))
    return read_listed(listed, listing, source.name, source.spec, source.conditions)


def _left(kinds: dict[str, str], used: Sequence[str]) -> tuple[str, ...]:
    left = [key for key, kind in kinds.items() if key not in used and (used or not kind)]
    return (f"left out, because they are not one number or word per sample: {some(left, 8)}",) if left else ()


def _bytes(column: Any) -> Any:
    """The bytes of each file."""
    from pyarrow import compute, types

    return compute.struct_field(column, "bytes") if types.is_struct(column.type) else column


def _member(row: int, content: Any) -> Member:
    """A file in a cell; a sound has a suffix that says so, of a picture the content does."""
    read = _Encoded(content)
    head = read(12)
    return Member((f"row {row}.wav" if head[:4] == b"RIFF" and head[8:] == b"WAVE" else f"row {row}",), read)


@dataclass(frozen=True)
class _Encoded:
    content: Any

    def __call__(self, limit: int = -1) -> bytes:
        blob = self.content.as_py() or b""
        return blob if limit < 0 else blob[:limit]


def _cells(column: Any) -> list[Any]:
    """Single values, or the paths of files elsewhere."""
    values = column if isinstance(column, list) else column.to_pylist()
    return ["" if v is None else v.get("path", "") if isinstance(v, dict) else v for v in values]


def _array(column: Any) -> Any:
    """Lists of one length as an array; lists of several are refused where they are used."""
    values = column if isinstance(column, list) else column.to_pylist()
    try:
        return np.array(values)
    except ValueError:
        return values
