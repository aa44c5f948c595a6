"""Pictures in class folders, from a folder, a tar or a zip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from tbft.data.class_names import twins_note
from tbft.data.conditions import Conditions, matching
from tbft.data.levels import Hints
from tbft.data.media import decoder_of
from tbft.data.members import Listing, by_kind, counted, printable, some
from tbft.data.samples import Samples
from tbft.data.side_tables import side_columns
from tbft.data.source import Source
from tbft.data.spec import InputSpec
from tbft.data.table_search import problems_of_tables
from tbft.data.trees import Tree, interpret, ordered_classes
from tbft.errors import DataError, unknown

Positions = npt.NDArray[np.int64]


def read_source(source: Source) -> Samples | None:
    """Pictures or recordings in the class folders of a folder or an archive."""
    if source.listing is None:
        return None
    return read_pictures(source.listing, source.path, source.spec, source.conditions)


def read_pictures(listing: Listing, path: Path, spec: InputSpec, conditions: Conditions) -> Samples:
    """Pictures in ``<class>/<file>``, or in deeper folders whose meaning is certain or named by a layout.

    Args:
        listing: the files of a folder, a tar or a zip.
        path: where it lies, for names.
        conditions: on attributes; pictures that do not meet them are not decoded.

    Raises:
        DataError: no pictures, damaged ones, or folders whose meaning is not certain.
    """
    if not listing.pictures:
        raise DataError(_nothing_in(listing))
    columns, joined = side_columns(listing, spec)
    wishes = {key: condition.wanted for key, condition in conditions.items() if key not in columns}
    hints = Hints(spec.layout, _known(spec), wishes, path.name.partition(".")[0], listing.noun)
    tree = _interpreted(listing, hints)
    attributes = {**columns, **tree.attributes, "file": np.array([m.name for m in listing.pictures])}
    known = {key: condition for key, condition in conditions.items() if key in attributes}
    # As ids, positions do not depend on which pictures are wanted.
    chosen, more = _in_folders(tree.classes, matching(attributes, known, listing.name), spec, listing.name)
    class_names, notes = _classes(tree.classes, spec, listing.name)
    found = decoder_of(listing)([listing.pictures[i] for i in chosen], spec, listing.name, listing.damaged)
    at = chosen[found.kept]
    position = {printable(c): i for i, c in enumerate(class_names)}
    return Samples(
        inputs=found.inputs,
        labels=np.array([position[tree.classes[i]] for i in at]),
        class_names=class_names,
        ids=at,
        attributes={key: values[at] for key, values in attributes.items()},
        name=listing.name,
        notes=(*tree.notes, *joined, *notes, *more, *listing.notes, *listing.describe_others(), *found.notes),
        preprocessing=spec.preprocessing,
    )


def _interpreted(listing: Listing, hints: Hints) -> Tree:
    """What the folders mean; where that is refused, with what else could give the classes."""
    try:
        return interpret([m.parts for m in listing.pictures], hints, listing.name)
    except DataError as error:
        if _has_text_each(listing):
            raise DataError(
                f"{listing.name}: the pictures have a text file each, as for detecting objects (YOLO), "
                "and no class: put them into folders <class>/<file>, or write a table of labels beside them "
                "(labels.csv: file,label) with one class for each picture"
            ) from error
        if not listing.others or any(len(m.parts) > 1 for m in listing.pictures):
            raise
        seen = problems_of_tables(listing) or [f"beside them: {by_kind(listing.others)}"]
        raise DataError(f"{error} ({'; '.join(seen)})") from error


def _has_text_each(listing: Listing) -> bool:
    """Whether most pictures have a text file of the same name, wherever it lies."""
    texts = {PurePath(m.name).stem for m in listing.others if m.suffix == ".txt"}
    named = sum(PurePath(m.name).stem in texts for m in listing.pictures)
    return 2 * named > len(listing.pictures)


def _nothing_in(listing: Listing) -> str:
    seen = [by_kind(listing.others)] if listing.others else []
    seen += [f"{name} ({reason})" for name, reason in listing.damaged[:3]]
    seen += listing.notes
    others = f" (it has: {'; '.join(seen)})" if seen else ""
    remedy = ""
    if listing.others:
        remedy = _of_others(listing)
    return f"{listing.name}: no pictures in it; expected <class>/<file>{others}{remedy}"


def _of_others(listing: Listing) -> str:
    """What to do with arrays, tables and archives that lie where pictures should."""
    kinds = {m.suffix: m.name for m in reversed(listing.others)}
    if ".npy" in kinds:
        return (
            "; give the folder with X.npy and y.npy; single arrays are stacked by np.save('X.npy', "
            "np.stack(arrays)); or give a factory that returns a Dataset, package.module:factory"
        )
    single = next((n for s, n in kinds.items() if s in (".npz", ".pt", ".pth", ".safetensors", ".h5")), None)
    if single is not None:
        return f"; give one of these files as the set, such as {single} (unpacked, if it is in an archive)"
    packed = next((n for s, n in kinds.items() if s in (".zip", ".tar", ".tgz", ".gz")), None)
    if packed is not None:
        return f"; unpack what is packed in it, such as {packed}"
    return "; other files are read with a factory that returns a Dataset, package.module:factory"


def _known(spec: InputSpec) -> frozenset[str]:
    return frozenset(printable(c) for c in spec.folders or spec.class_names or ())


def _classes(folders: Sequence[str], spec: InputSpec, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes in the order of their labels, and notes on it."""
    if spec.class_names is None and spec.folders is not None:
        return tuple(sorted(spec.folders & set(folders))), ()
    if spec.class_names is None:
        class_names, notes = ordered_classes(set(folders), spec.labels_from)
        return class_names, (*notes, *twins_note(sorted(set(folders))))
    known = {printable(c) for c in spec.class_names}
    for folder in folders:
        if folder not in known:
            message = unknown("class", folder, spec.class_names)
            raise DataError(f"{name}: the model has no such class: {message}")
    return spec.class_names, ()


def _in_folders(
    classes: Sequence[str], wanted: npt.NDArray[np.bool_], spec: InputSpec, name: str
) -> tuple[Positions, tuple[str, ...]]:
    """Positions of the pictures that are wanted and lie in the class folders to read."""
    if spec.folders is None:
        return np.flatnonzero(wanted), ()
    inside = np.array([c in spec.folders for c in classes], dtype=bool)
    if not inside.any():
        own, asked = (some(sorted(names)) for names in (set(classes), spec.folders))
        raise DataError(f"{name}: it has the class folders {own}, and none of those wanted: {asked}")
    left = sorted({c for c in classes if c not in spec.folders})
    noted = f"{counted(len(left), 'class folder')} not requested: {some(left)}"
    return np.flatnonzero(wanted & inside), (noted,) if left else ()
