"""Pictures in class folders, from a folder, a tar or a zip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.decoding import decode
from tbft.data.levels import Hints
from tbft.data.members import Listing, by_kind, counted, printable, some
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec
from tbft.data.trees import Tree, interpret, ordered_classes
from tbft.errors import DataError, unknown

Positions = npt.NDArray[np.int64]


def read_pictures(
    listing: Listing, path: Path, spec: InputSpec, where: Mapping[str, str] | None = None
) -> Samples:
    """Pictures in ``<class>/<file>``, or in deeper folders whose meaning is certain or named by a layout.

    Args:
        listing: the files of a folder, a tar or a zip.
        path: where it lies, for names.
        where: values of attributes; other pictures are not decoded.

    Raises:
        DataError: no pictures, damaged ones, or folders whose meaning is not certain.
    """
    if not listing.pictures:
        raise DataError(_nothing_in(listing))
    where = dict(where or {})
    hints = Hints(
        spec.layout, _known(spec), {key: {value} for key, value in where.items()}, path.name.partition(".")[0]
    )
    tree = interpret([m.parts for m in listing.pictures], hints, listing.name)
    wanted, more = _wanted(tree, spec, where, listing.name)
    class_names, notes = _classes(tree.classes, spec, listing.name)
    found = decode([listing.pictures[i] for i in wanted], spec, listing.name, listing.damaged)
    at = wanted[found.kept]
    position = {printable(c): i for i, c in enumerate(class_names)}
    labels = np.array([position[tree.classes[i]] for i in at])
    attributes = {key: values[at] for key, values in tree.attributes.items()}
    attributes["file"] = np.array([listing.pictures[i].name for i in at])
    told = (*tree.notes, *notes, *more, *listing.notes, *listing.describe_others(), *found.notes)
    return Samples(
        found.inputs, labels, class_names, at, attributes, str(path), told, preprocessing=spec.preprocessing
    )


def _nothing_in(listing: Listing) -> str:
    seen = [by_kind(listing.others)] if listing.others else []
    seen += [f"{name} ({reason})" for name, reason in listing.damaged[:3]]
    seen += listing.notes
    told = f" (it has: {'; '.join(seen)})" if seen else ""
    return f"{listing.name}: no pictures in it; expected <class>/<file>{told}"


def _known(spec: InputSpec) -> frozenset[str]:
    return frozenset(printable(c) for c in spec.folders or spec.class_names or ())


def _classes(folders: Sequence[str], spec: InputSpec, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes in the order of their labels, and what is to be said of it."""
    if spec.class_names is None:
        return (
            ordered_classes(set(folders), spec.labels_from)
            if spec.folders is None
            else (tuple(sorted(spec.folders & set(folders))), ())
        )
    known = {printable(c) for c in spec.class_names}
    for folder in folders:
        if folder not in known:
            message = unknown("class", folder, spec.class_names)
            raise DataError(f"{name}: the model has no such class: {message}")
    return spec.class_names, ()


def _wanted(
    tree: Tree, spec: InputSpec, where: Mapping[str, str], name: str
) -> tuple[Positions, tuple[str, ...]]:
    """Positions of the pictures to read; as ids they do not depend on which ones are wanted."""
    count = len(tree.classes)
    none = np.zeros(count, np.int64)
    every = Samples(none, none, ("",), np.arange(count), tree.attributes, name)
    chosen = every.where({k: v for k, v in where.items() if k in tree.attributes}).ids
    if spec.folders is None:
        return chosen, ()
    inside = np.array([c in spec.folders for c in tree.classes], dtype=bool)
    if not inside.any():
        own, wanted = (some(sorted(names)) for names in (set(tree.classes), spec.folders))
        raise DataError(f"{name}: it has the class folders {own}, and none of those wanted: {wanted}")
    left: Any = sorted({c for c, kept in zip(tree.classes, inside, strict=True) if not kept})
    noted = f"{counted(len(left), 'class folder')} not asked for: {some(left)}"
    return chosen[inside[chosen]], (noted,) if left else ()
