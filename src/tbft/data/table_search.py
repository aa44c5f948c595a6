"""The table among the files of a set that says what its pictures show."""

from __future__ import annotations

from collections.abc import Sequence

from tbft.data.folder_names import part_of
from tbft.data.json_tables import json_members, json_tables
from tbft.data.listed import Listed, PictureIndex, label_columns, of_json, with_files
from tbft.data.members import Listing, Member
from tbft.data.spec import InputSpec
from tbft.data.tables import SUFFIXES, parse_table, table_of_rows
from tbft.errors import DataError

_MAX_TABLE_BYTES = 1 << 28


def find_table(listing: Listing, spec: InputSpec) -> Listed | None:
    """The table beside pictures that says what they show; None if their folders have to say it.

    Raises:
        DataError: several tables name the pictures, and no folders do.
    """
    if spec.layout is not None:
        return None
    tables = joined(tables_of_pictures(listing), listing)
    in_folders = all(len(m.parts) > 1 for m in listing.pictures)
    names = ", ".join(t.table.name for t in tables)
    if len(tables) > 1 and not (in_folders and _are_classes(listing)):
        raise DataError(
            f"{listing.name}: several tables name its {listing.noun}s: {names}; give one of them as the set"
        )
    if in_folders and tables and not _tells_labels(tables, listing, spec):
        return None
    return tables[0] if tables else None


def _tells_labels(tables: Sequence[Listed], listing: Listing, spec: InputSpec) -> bool:
    """Whether a table, rather than the folders, gives the labels of pictures that lie in folders."""
    table = tables[0]
    if len(tables) > 1 or label_columns(table, spec) is None:
        return False
    is_certain = "labels" in (spec.keys or {}) or table.has_usual_label or not table.table.named
    return is_certain or not _are_classes(listing)


def _are_classes(listing: Listing) -> bool:
    """Whether the folders in which pictures lie may be classes."""
    folders = {m.parts[-2] for m in listing.pictures}
    return len(folders) > 1 and not any(part_of(name) for name in folders)


def tables_of_pictures(listing: Listing, index: PictureIndex | None = None) -> list[Listed]:
    """The tables among the files that name pictures."""
    texts = [m for m in listing.others if m.suffix in SUFFIXES]
    jsons = [m for m in json_members(listing) if any(True for _ in json_tables(m))]
    if not (listing.pictures and (texts or jsons)):
        return []
    index = index or PictureIndex(listing.pictures)
    tried = (*(_tried(m, index) for m in texts), *(of_json(m, index) for m in jsons))
    return [table for table in tried if table is not None]


def joined(tables: list[Listed], listing: Listing) -> list[Listed]:
    """Tables of the same columns that lie in a folder each, and name what is below it, as one table.

    Folders that are named after parts become the column ``part``.
    """
    columns = tables[0].table.columns if tables else ()
    alike = all(t.table.columns == columns and t.table.named and not t.class_names for t in tables)
    if len(tables) < 2 or not alike or len({t.place for t in tables}) < len(tables):
        return tables
    index = PictureIndex(listing.pictures)
    parts = [part_of(t.place[-1]) if t.place else None for t in tables]
    has_parts = None not in parts and "part" not in columns
    rows = []
    for listed, part in zip(tables, parts, strict=True):
        for _, cells in listed.table.rows():
            at = index.find("/".join((*listed.place, cells[listed.files])))
            if at is None:
                return tables
            own = [listing.pictures[at].name, *cells[: listed.files], *cells[listed.files + 1 :]]
            rows.append([*own, part] if has_parts else own)
    rest = [c for i, c in enumerate(columns) if i != tables[0].files]
    name = " and ".join(t.table.name for t in tables)
    return [Listed(table_of_rows(name, ("file", *rest, *(["part"] if has_parts else [])), rows), 0)]


def problems_of_tables(listing: Listing) -> list[str]:
    """What is wrong with files whose names are those of tables."""
    found = []
    for member in listing.others:
        if member.suffix in SUFFIXES[:3]:
            try:
                parse_table(member.read(_MAX_TABLE_BYTES), member.name)
            except DataError as error:
                found.append(str(error))
    return found


def _tried(member: Member, index: PictureIndex) -> Listed | None:
    try:
        table = parse_table(member.read(_MAX_TABLE_BYTES), member.name)
        return with_files(table, index, member.parts[:-1])
    except DataError:
        return None  # some other text
