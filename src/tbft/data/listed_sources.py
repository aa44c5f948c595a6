"""Sets that a table describes: beside the pictures, or given itself; and tables of numbers."""

from __future__ import annotations

from pathlib import Path

from tbft.data.archives import list_members
from tbft.data.feature_tables import read_features
from tbft.data.json_tables import SUFFIXES as JSON_SUFFIXES
from tbft.data.json_tables import json_tables
from tbft.data.listed import Listed, PictureIndex, of_json, with_files, with_named_files
from tbft.data.listed_pictures import read_listed
from tbft.data.members import FileReader, Listing, Member
from tbft.data.samples import Samples
from tbft.data.shards import shard_table
from tbft.data.source import Source
from tbft.data.table_search import find_table
from tbft.data.tables import SUFFIXES, Table, parse_table
from tbft.errors import DataError

#: Folders of files about pictures that lie beside them.
_BESIDE = {"annotations", "annotation", "labels", "meta", "metadata", "json"}


def read_source(source: Source) -> Samples | None:
    """Pictures or recordings with a table of their labels, or a file of the label of each, beside them."""
    listing = source.listing
    if listing is None:
        return None
    listed = find_table(listing, source.spec) or shard_table(listing, source.spec)
    if listed is None:
        return None
    return read_listed(listed, listing, source.name, source.spec, source.conditions)


def read_table_file(source: Source) -> Samples | None:
    """A table of files and labels, or of numbers, that is given as the set."""
    if source.suffix not in SUFFIXES:
        return None
    try:
        table = parse_table(source.path.read_bytes(), source.name)
    except OSError as error:
        raise DataError(f"{source.name} cannot be read: {error.strerror}") from error
    return read_table(table, source)


def read_table(table: Table, source: Source) -> Samples:
    """A table of files and labels, or of numbers."""
    if (found := _listed_in(table, source.path)) is not None:
        return read_listed(*found, source.name, source.spec, source.conditions)
    samples = read_features(table, source.spec)
    return samples.where({key: c for key, c in source.conditions.items() if key in samples.attributes})


def read_json_file(source: Source) -> Samples | None:
    """A ``.json`` or ``.jsonl`` of files and labels, which lie below its folder or beside that."""
    if source.suffix not in JSON_SUFFIXES:
        return None
    path = source.path.resolve()
    folders = [path.parent, *([path.parent.parent] if path.parent.name.lower() in _BESIDE else [])]
    has_table = any(True for _ in json_tables(Member((path.name,), FileReader(str(path)))))
    for folder in folders if has_table else []:
        listing = list_members(folder)
        member = Member(path.relative_to(folder).parts, FileReader(str(path)))
        listed = of_json(member, PictureIndex(listing.pictures))
        if listed is not None:
            return read_listed(listed, listing, source.name, source.spec, source.conditions)
    raise DataError(
        f"{source.name}: it names no pictures that lie below {source.path.parent}; expected COCO's images, "
        "annotations and categories, or records with a file and a label each"
    )


def _listed_in(table: Table, path: Path) -> tuple[Listed, Listing] | None:
    """A table that was given as the set, with the files below its folder; None if it names none."""
    named = with_named_files(table)
    if named is None and not any(name.lower() in ("id", "name", "") for name in table.columns):
        return None  # numbers: nothing to look for in what may be a large folder
    listing = list_members(path.parent)
    found = with_files(table, PictureIndex(listing.pictures)) or named
    return None if found is None else (found, listing)
