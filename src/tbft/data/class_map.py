"""Class maps: class folders read as superclasses, each leaf in the source or in the target domain.

This is how BREEDS makes drift at the feature level (Santurkar et al. 2020): a model learns each superclass
from some of its leaf classes, two kinds of turtle for example, and meets the others. A map is registered
and written ``name`` or ``name:split``, such as ``living17:rand``, or it is a JSON file of the user's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tbft.data.samples import Samples
from tbft.errors import DataError, SchemaError, unknown
from tbft.json_text import read_json

DOMAINS = ("source", "target")

FORM = '{"superclass": {"source": ["leaf", ...], "target": ["leaf", ...]}, ...}'


@dataclass(frozen=True)
class ClassMap:
    """Leaf classes in superclasses and domains.

    Attributes:
        name: as it is written, or the file it was read from.
        class_names: the superclasses in label order.
        leaves: name of a leaf's class folder -> (index of its superclass, its domain).
        leaf_names: what the folders hold, in words, as far as known.
        summary: one line on what it is.
        source: where it comes from.

    Raises:
        DataError: a superclass without leaves or named twice, an unknown label or domain.

    >>> ClassMap("pets", ("cat",), {"tabby": (0, "source"), "lion": (0, "target")}).folders("target")
    frozenset({'lion'})
    """

    name: str
    class_names: tuple[str, ...]
    leaves: Mapping[str, tuple[int, str]]
    leaf_names: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if len(set(self.class_names)) < len(self.class_names):
            twice = next(n for i, n in enumerate(self.class_names) if n in self.class_names[:i])
            raise DataError(f"{self.name}: two superclasses are named {twice!r}; rename one")
        for leaf, (label, domain) in self.leaves.items():
            if not 0 <= label < len(self.class_names):
                raise DataError(
                    f"{self.name}: leaf {leaf!r} has label {label}, there are {len(self.class_names)} classes"
                )
            if domain not in DOMAINS:
                raise DataError(f"{self.name}: leaf {leaf!r}: {unknown('domain', domain, DOMAINS)}")
        used = {label for label, _ in self.leaves.values()}
        for label, superclass in enumerate(self.class_names):
            if label not in used:
                raise DataError(
                    f"{self.name}: superclass {superclass!r} has no leaf; name one or leave it out"
                )

    def folders(self, domain: str | None = None) -> frozenset[str]:
        """The class folders of one domain, or of both."""
        return frozenset(leaf for leaf, (_, own) in self.leaves.items() if domain in (None, own))


@dataclass(frozen=True)
class ClassMapFamily:
    """The class maps of one registered name, one for each split.

    Attributes:
        splits: the first is meant where only the name is written; none: there is one map, and no split.
        load: the name of a split (empty if there are none) -> the map.
        summary: one line on what it is.
        source: where it comes from.
    """

    name: str
    splits: tuple[str, ...]
    load: Callable[[str], ClassMap]
    summary: str
    source: str

    @property
    def usage(self) -> str:
        """How the maps are written."""
        return f"{self.name}[:SPLIT]" if self.splits else self.name

    @property
    def specs(self) -> tuple[str, ...]:
        """Every map in full: name and split."""
        return tuple(f"{self.name}:{split}" for split in self.splits) or (self.name,)


_FAMILIES: dict[str, ClassMapFamily] = {}


def register_class_map(family: ClassMapFamily) -> ClassMapFamily:
    """Make class maps known under their name."""
    if family.name in _FAMILIES:
        raise ValueError(f"a class map named {family.name!r} is registered already")
    _FAMILIES[family.name] = family
    return family


def class_maps() -> tuple[ClassMapFamily, ...]:
    """Every registered class map, in the order of registration; none is loaded by this."""
    return tuple(_FAMILIES.values())


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
    if name not in _FAMILIES:
        return _read(Path(spec))
    family = _FAMILIES[name]
    if split not in family.splits and colon:
        raise DataError(f"class map {str(spec)!r}: {unknown('split', split, family.splits)}")
    return family.load(split or next(iter(family.splits), ""))


def apply_class_map(samples: Samples, class_map: ClassMap) -> Samples:
    """Samples of leaf classes as samples of superclasses; those of other classes are left out.

    The labels become those of the superclasses; ids stay. The attribute ``domain`` tells source from
    target samples, ``leaf`` holds the class that a sample had.

    Raises:
        DataError: the map knows none of the classes.

    >>> pets = ClassMap("pets", ("cat", "dog"), {"tabby": (0, "source"), "pug": (1, "target")})
    >>> photos = Samples(np.zeros((3, 1)), np.array([0, 1, 2]), ("bat", "pug", "tabby"), np.arange(3))
    >>> mapped = apply_class_map(photos, pets)
    >>> mapped.labels, mapped.ids, mapped.attributes["domain"]
    (array([1, 0]), array([1, 2]), array(['target', 'source'], dtype='<U6'))
    """
    outside = (-1, "")
    found = [class_map.leaves.get(leaf, outside) for leaf in samples.class_names]
    labels = np.array([label for label, _ in found], dtype=np.int64)
    keep = labels[samples.labels] >= 0
    if not keep.any():
        own = (samples.class_names[label] for label in np.unique(samples.labels))
        raise DataError(
            f"{samples.name}: none of its classes is a leaf of the class map {class_map.name}: it has "
            f"{_some(own)}, the map has {_some(class_map.leaves)}; give another map, or none"
        )
    kept = samples if keep.all() else samples.subset(np.flatnonzero(keep))
    domains = np.array([domain for _, domain in found])[kept.labels]
    return replace(
        kept,
        labels=labels[kept.labels],
        class_names=class_map.class_names,
        attributes={**kept.attributes, "domain": domains, "leaf": np.array(kept.class_names)[kept.labels]},
        name=f"{samples.name} as {class_map.name}",
    )


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")


def _read(path: Path) -> ClassMap:
    if not path.exists() and path.suffix != ".json":
        raise DataError(f"{unknown('class map', str(path), _FAMILIES)}, or the path of a .json file")
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
                        f"{name}: leaf {leaf!r} is there twice, in {first[0]!r} ({first[1]}) and in "
                        f"{superclass!r} ({domain}); it can be in one superclass and one domain"
                    )
                leaves[leaf] = (label, domain)
                if words:
                    leaf_names[leaf] = words
    return ClassMap(name, tuple(superclass for superclass, _ in superclasses), leaves, leaf_names)


def _superclasses(record: Any, name: str) -> list[tuple[str, Any]]:
    """Each superclass and what the file says of it, in label order."""
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
