"""Which array, item or column holds the inputs and which the labels, by the names that people give them."""

from __future__ import annotations

from collections.abc import Sequence

from tbft.data.spec import InputSpec
from tbft.errors import DataError, unknown

#: Most common first.
INPUT_NAMES = (
    "images", "image", "inputs", "input", "x", "data", "features", "img", "imgs", "pixel_values", "pixels",
    "pictures", "picture", "windows", "window", "signals", "signal", "samples", "sample", "arr_0",
)  # fmt: skip
LABEL_NAMES = (
    "labels", "label", "y", "targets", "target", "class", "class_id", "category", "class_label", "arr_1",
)  # fmt: skip
CLASS_NAMES = ("class_names", "classes", "superclasses", "label_names", "categories")


def find_keys(known: Sequence[str], spec: InputSpec, where: str) -> tuple[str, str]:
    """The keys of inputs and labels among `known`: those that `spec` names, or the usual names.

    Raises:
        DataError: none is found, or two that may be meant; the message names the option that says which.
    """
    given = spec.keys or {}
    found = []
    for what, names in (("inputs", INPUT_NAMES), ("labels", LABEL_NAMES)):
        if what in given:
            if given[what] not in known:
                raise DataError(f"{where}: {unknown('key', given[what], known)}")
            found.append(given[what])
        else:
            found.append(_usual(known, names, what, where))
    return found[0], found[1]


def _usual(known: Sequence[str], names: Sequence[str], what: str, where: str) -> str:
    hits = [key for name in names for key in known if key.lower() == name]
    if len(hits) == 1:
        return hits[0]
    remedy = f"say which: --keys inputs=NAME,labels=NAME (found {', '.join(known) or 'nothing'})"
    if not hits:
        raise DataError(f"{where}: no {what} under a usual name ({', '.join(names[:6])}, ...); {remedy}")
    raise DataError(f"{where}: the {what} may be {' or '.join(hits)}; {remedy}")
