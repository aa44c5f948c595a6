"""Class maps by name, and from files of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tbft.data.class_map import DOMAINS, FORM, ClassMap, class_maps
from tbft.errors import DataError, SchemaError, unknown
from tbft.json_text import read_json


def find_class_map(spec: str | Path) -> ClassMap:
    """The registered map ``name`` or ``name:split``, or the one in a JSON file.

    A file holds one of these; its superclasses have labels in the order in which they stand, or as given::

        {"turtle": {"source": ["n01664065"], "target": ["n01665541"]}, ...}
        {"turtle": ["n01664065", "n01665541"], ...}     (all of them source)
        {"superclasses": [{"label": 0, "name": "turtle", "source": [...], "target": [...]}, ...]}

    A leaf is the name of its class folder, or ``{"wnid": FOLDER, "name": WORDS}``.

    Raises:
        DataError: an unknown name, or a file that cannot be read or contradicts itself.

    >>> import tbft.scenarios  # registers the maps that ship
    >>> bears = find_class_map("living17:rand")
    >>> bears.class_names[12], bears.leaves["n02134418"], bears.leaf_names["n02134418"]
    ('bear', (12, 'source'), 'sloth bear, Melursus ursinus, Ursus ursinus')
    """
    name, colon, split = str(spec).partition(":")
    family = next((one for one in class_maps() if one.name == name), None)
    if family is None:
        return _read(Path(spec))
    if split not in family.splits and colon:
        raise DataError(f"class map {str(spec)!r}: {unknown('split', split, family.splits)}")
    return family.load(split or next(iter(family.splits), ""))


def _read(path: Path) -> ClassMap:
    if not path.exists() and path.suffix != ".json":
        known = [one.name for one in class_maps()]
        raise DataError(f"{unknown('class map', str(path), known)}, or the path of a .json file")
    try:
        record = read_json(path)
    except SchemaError as error:
        raise DataError(f"{path} cannot be read as a class map: {error}; expected JSON: {FORM}") from error
    return parse_class_map(record, str(path))


def parse_class_map(record: Any, name: str) -> ClassMap:
    """The class map that decoded JSON holds, see :func:`find_class_map`."""
    leaves: dict[str, tuple[int, str]] = {}
    leaf_names: dict[str, str] = {}
    superclasses = _superclasses(record, name)
    for label, (superclass, value) in enumerate(superclasses):
        for domain, listed in _domains(value, f"{name}: superclass {superclass!r}").items():
            for leaf, words in (_leaf(one, f"{name}: superclass {superclass!r}") for one in listed):
                if leaf in leaves:
                    first = superclasses[leaves[leaf][0]][0], leaves[leaf][1]
                    raise DataError(
                        f"{name}: leaf {leaf!r} appears twice, in {first[0]!r} ({first[1]}) and in "
                        f"{superclass!r} ({domain}); it can be in one superclass and one domain"
                    )
                leaves[leaf] = (label, domain)
                if words:
                    leaf_names[leaf] = words
    return ClassMap(name, tuple(superclass for superclass, _ in superclasses), leaves, leaf_names)


def _superclasses(record: Any, name: str) -> list[tuple[str, Any]]:
    """Each superclass and what the file says about it, in label order."""
    if not isinstance(record, dict) or not record:
        raise DataError(f"{name} holds no class map; expected {FORM}")
    listed = record.get("superclasses")
    if not isinstance(listed, list):
        return list(record.items())
    for one in listed:
        if not (isinstance(one, dict) and type(one.get("label")) is int and isinstance(one.get("name"), str)):
            raise DataError(
                f"{name}: each of the superclasses needs a label (integer) and a name, not {_shown(one)}"
            )
    labels = sorted(one["label"] for one in listed)
    if labels != list(range(len(listed))) or not labels:
        raise DataError(f"{name}: labels have to be 0, 1, 2, ..., each once, not {_shown(labels)}")
    listed = sorted(listed, key=lambda one: one["label"])
    return [(one["name"], {k: v for k, v in one.items() if k not in ("label", "name")}) for one in listed]


def _domains(value: Any, where: str) -> dict[str, list[Any]]:
    if isinstance(value, list):
        return {"source": value}
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_shown(value)}; expected a list of leaves, or source and target")
    for domain, listed in value.items():
        if domain not in DOMAINS:
            raise DataError(f"{where}: {unknown('domain', domain, DOMAINS)}")
        if not isinstance(listed, list):
            raise DataError(f"{where}: {domain} is {_shown(listed)}; expected a list of leaves")
    return value


def _leaf(value: Any, where: str) -> tuple[str, str]:
    """A leaf's folder and its name in words, empty if there is none."""
    folder, words = (value.get("wnid"), value.get("name", "")) if isinstance(value, dict) else (value, "")
    if not (isinstance(folder, str) and folder and isinstance(words, str)):
        raise DataError(
            f'{where}: a leaf is {_shown(value)}; expected a folder, or {{"wnid": ..., "name": ...}}'
        )
    return folder, words


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:56] + " ..."
