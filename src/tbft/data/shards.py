"""Pictures that have their label in a file of their own beside them, as in shards of WebDataset."""

from __future__ import annotations

import json
from typing import Any

from tbft.data.keys import LABEL_NAMES
from tbft.data.listed import Listed
from tbft.data.members import Listing, Member
from tbft.data.spec import InputSpec
from tbft.data.tables import table_of_rows


def shard_table(listing: Listing, spec: InputSpec) -> Listed | None:
    """A table of the labels in ``000.cls`` or ``000.json`` beside ``000.jpg``; None if there are none.

    Further values in the ``.json`` become columns. Where pictures lie in class folders, a ``.json`` beside
    them does not give the label.
    """
    beside = {m.name: m for m in listing.others if m.suffix in (".cls", ".json")}
    if not beside or spec.layout is not None:
        return None
    in_folders = len({m.parts[:-1] for m in listing.pictures}) > 1 and not listing.from_archives
    rows: dict[str, dict[str, Any]] = {}
    for picture in listing.pictures:
        stem = _stem(picture, beside)
        values = {} if stem is None else _values(stem, beside, spec)
        if stem is not None and "label" in values and not (in_folders and f"{stem}.cls" not in beside):
            # Of several pictures of one sample, such as 000.jpg and 000.seg.png, the first is meant.
            rows.setdefault(stem, {"file": picture.name, **values})
    if not rows:
        return None
    columns = tuple(dict.fromkeys(key for row in rows.values() for key in ("file", "label", *row)))
    cells = ([row.get(column, "") for column in columns] for row in rows.values())
    return Listed(table_of_rows(f"{listing.name} (.cls, .json)", columns, cells), 0)


def _stem(picture: Member, beside: dict[str, Member]) -> str | None:
    """What the names of a sample's files have in common: all before their last dot, or before the first."""
    folder, name = picture.parts[:-1], picture.parts[-1]
    for stem in (name.rpartition(".")[0], name.partition(".")[0]):
        whole = "/".join((*folder, stem))
        if f"{whole}.cls" in beside or f"{whole}.json" in beside:
            return whole
    return None


def _values(stem: str, beside: dict[str, Member], spec: InputSpec) -> dict[str, Any]:
    """The label of a sample, as ``label``, and what else is known of it."""
    found: dict[str, Any] = {}
    if f"{stem}.json" in beside:
        found = _scalars(beside[f"{stem}.json"])
        usual = ((spec.keys or {}).get("labels", "label"), *LABEL_NAMES, "cls")
        key = next((key for key in usual if key in found), None)
        if key is not None:
            found = {"label": found.pop(key), **found}
    if f"{stem}.cls" in beside:
        found["label"] = beside[f"{stem}.cls"].read(-1).decode("utf-8", "replace").strip()
    return {key: value for key, value in found.items() if key != "file"}


def _scalars(member: Member) -> dict[str, Any]:
    try:
        values = json.loads(member.read(-1))
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(k): v for k, v in values.items() if isinstance(v, (str, int, float))}
