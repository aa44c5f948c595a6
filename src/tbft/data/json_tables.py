"""Labels of pictures in JSON: COCO's annotations, lists of records (also a line each), or file -> label."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tbft.data.members import Listing, Member, counted, printable, some
from tbft.data.tables import Table, table_of_rows
from tbft.errors import DataError

SUFFIXES = (".json", ".jsonl")
#: Keys under which records name their file.
_FILES = ("file_name", "filename", "file", "path", "image", "image_path", "img", "audio")
_MAX_BYTES = 1 << 28
#: Maximum number of files beside pictures that are searched.
_MAX_FILES = 20
#: Keys of COCO's pictures that say nothing about what they show.
_PASSED_OVER = {"id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "url"}

Tables = tuple[Table, tuple[str, ...] | None, tuple[str, ...]]


@dataclass(frozen=True)
class _Records:
    """Records with a file each.

    Attributes:
        name: of the file, for messages.
        rows: values by key; `key` is that of the file.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    key: str

    @property
    def file_names(self) -> list[str]:
        return [str(row.get(self.key, "")) for row in self.rows]

    def table(self) -> Tables:
        """The table, no class names, and a note on values that are not single."""
        every = dict.fromkeys(k for row in self.rows for k in row if k != self.key)
        nested = [k for k in every if any(isinstance(row.get(k), (list, dict)) for row in self.rows)]
        columns = [k for k in every if k not in nested]
        cells = [[row.get(self.key, ""), *(_cell(row.get(k)) for k in columns)] for row in self.rows]
        notes = (
            (f"left out of {self.name}, as they hold several values: {some(nested, 8)}",) if nested else ()
        )
        return table_of_rows(self.name, ("file", *map(str, columns)), cells), None, notes


@dataclass(frozen=True)
class _Coco:
    """COCO's annotations, of which each picture may have those of one category."""

    name: str
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    categories: Sequence[Mapping[str, Any]]

    @property
    def file_names(self) -> list[str]:
        return [str(image.get("file_name", "")) for image in self.images]

    def table(self) -> Tables:
        """The table, the categories in the order of their ids, and notes.

        Raises:
            DataError: a picture with several categories, or ids that refer to nothing.
        """
        self._check_ids()
        names = self._names()
        found: dict[Any, set[Any]] = defaultdict(set)
        for annotation in self.annotations:
            found[annotation.get("image_id")].add(annotation.get("category_id"))
        unknown = {c for own in found.values() for c in own} - set(names)
        if unknown:
            raise DataError(
                f"{self.name}: annotations of a category that it does not define: {some(map(str, unknown))}"
            )
        several = [str(i.get("file_name")) for i in self.images if len(found[i.get("id")]) > 1]
        if several:
            raise DataError(
                f"{self.name}: {counted(len(several), 'picture')} have annotations of several categories; "
                f"a classifier takes one label per picture: {some(map(printable, several))}; cut out the "
                "boxes as pictures of their own, or leave these pictures out of the file"
            )
        keys = dict.fromkeys(k for i in self.images for k, v in i.items() if _is_plain(v))
        more = [k for k in keys if k not in _PASSED_OVER]
        rows = [
            [i.get("file_name", ""), names[next(iter(found[i.get("id")]))], *(_cell(i.get(k)) for k in more)]
            for i in self.images
            if found[i.get("id")]
        ]
        table = table_of_rows(self.name, ("file", "label", *more), rows)
        return table, tuple(names.values()), self._notes()

    def _check_ids(self) -> None:
        """Raise DataError for ids that cannot refer to anything."""
        for what, rows, keys in (
            ("picture", self.images, ("id",)),
            ("annotation", self.annotations, ("image_id", "category_id")),
            ("category", self.categories, ("id",)),
        ):
            for i, row in enumerate(rows):
                for key in keys:
                    if type(row.get(key)) not in (int, str):
                        raise DataError(
                            f"{self.name}: {what} {i}: its {key} is neither a whole number nor text"
                        )

    def _names(self) -> dict[Any, str]:
        """Category id -> name, in the order of the ids."""
        try:
            names = {
                c["id"]: str(c.get("name", c["id"])) for c in sorted(self.categories, key=lambda c: c["id"])
            }
        except (KeyError, TypeError):
            raise DataError(f"{self.name}: each category needs an id, a number") from None
        if len(set(names.values())) < len(self.categories):
            raise DataError(f"{self.name}: two categories have one id or one name; give each its own")
        return names

    def _notes(self) -> tuple[str, ...]:
        known = {i.get("id") for i in self.images}
        absent = sum(a.get("image_id") not in known for a in self.annotations)
        left_out = counted(absent, "annotation")
        return (f"{left_out} of pictures that {self.name} does not list left out",) if absent else ()


def json_members(listing: Listing) -> list[Member]:
    """Files of JSON beside pictures, except for those about one picture each."""
    stems = {m.name.rpartition(".")[0] for m in listing.pictures}
    found = [m for m in listing.others if m.suffix in SUFFIXES and m.name.rpartition(".")[0] not in stems]
    return found if len(found) <= _MAX_FILES else []


def json_tables(member: Member) -> Iterator[_Coco | _Records]:
    """What may be a table of pictures in a file.

    Raises:
        DataError: a file is named twice, with different labels.
    """
    try:
        values = _parsed(member)
    except DataError:
        raise
    except (ValueError, RecursionError, OSError):
        return  # some other text
    if isinstance(values, dict):
        parts = [values.get(key) for key in ("images", "annotations", "categories")]
        if all(_are_mappings(part) for part in parts):
            yield _Coco(member.name, *parts)  # type: ignore[arg-type]
        elif values and all(_is_plain(v) for v in values.values()):
            yield _Records(member.name, [{"file": k, "label": v} for k, v in values.items()], "file")
    elif values and _are_mappings(values):
        for key in _FILES:
            if isinstance(values[0].get(key), str):
                yield _Records(member.name, values, key)


def _parsed(member: Member) -> Any:
    blob = member.read(_MAX_BYTES + 1)
    if len(blob) > _MAX_BYTES:
        raise DataError(f"{member.name}: a file of over {_MAX_BYTES >> 20} MiB is not read; save it as .csv")
    text = blob.decode("utf-8-sig")
    if member.suffix == ".jsonl":
        return [json.loads(line) for line in re.split(r"\r?\n", text) if line.strip()]
    return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, member.name))


def _once(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise DataError(f"{name}: {printable(twice)!r} is in it twice; keep one of the two")
    return found


def _are_mappings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, dict) for v in values)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _cell(value: Any) -> Any:
    return "" if value is None else value
