"""Class maps: class folders read as superclasses, each leaf in the source or in the target domain.

This is how BREEDS makes drift at the feature level (Santurkar et al. 2020): a model learns each superclass
from some of its leaf classes, two kinds of turtle for example, and meets the others. A map is registered
and written ``name`` or ``name:split``, such as ``living17:rand``, or it is a JSON file of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tbft.data.samples import Samples
from tbft.errors import DataError, unknown

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
        summary: what it is, in one line.
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
        summary: what it is, in one line.
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


def apply_class_map(samples: Samples, class_map: ClassMap) -> Samples:
    """Samples of leaf classes as samples of superclasses; those of other classes are left out.

    The labels become those of the superclasses; ids stay. The attribute ``domain`` separates source from
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
