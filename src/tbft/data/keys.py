"""Which array, item or column holds the inputs and which the labels, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
#: Several inputs per sample, as tokenizers give them.
TOKENS = ("input_ids", "token_type_ids", "attention_mask")
#: Between the keys of several inputs.
JOINED = "+"
CLASS_NAMES = ("class_names", "classes", "superclasses", "label_names", "categories")
#: What people call parts -> the name of the part.
PARTS = {
    "train": "train", "training": "train", "tr": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test", "te": "test",
}  # fmt: skip

_MAX_SHOWN = 12


@dataclass(frozen=True)
class Keys:
    """Where one part of a set lies.

    Attributes:
        inputs, labels: keys of its arrays.
        more: attribute -> key of the array with one entry per sample.
        part: ``train``, ``val`` or ``test``; empty where the set has no parts.
    """

    inputs: str
    labels: str
    more: Mapping[str, str]
    part: str = ""


def find_keys(known: Sequence[str], spec: InputSpec, where: str) -> tuple[str, str]:
    """The keys of inputs and labels among `known`: those that `spec` names, or the usual names.

    Raises:
        DataError: none is found, or two that may be meant; the message names the option that says which.
    """
    given = spec.keys or {}
    found = []
    for what, names in (("inputs", INPUT_NAMES), ("labels", LABEL_NAMES)):
        if what in given:
            for key in [given[what]] if given[what] in known else given[what].split(JOINED):
                if key not in known:
                    raise DataError(f"{where}: {unknown('key', key, known)}")
            found.append(given[what])
        else:
            found.append(_usual(known, names, what, where))
    return found[0], found[1]


def find_parts(known: Sequence[str], spec: InputSpec, where: str) -> list[Keys]:
    """The same for arrays that may be given in parts: ``x_train``, ``train_labels``, ``X_test``, ...

    Returns:
        one entry per part, in the order train, val, test; a single one where the keys name no part.

    Raises:
        DataError: as :func:`find_keys`, or a part that lacks its inputs or labels.
    """
    by_part: dict[str, dict[str, str]] = {}
    for key in known:
        part, base = split_part(key)
        if part:
            by_part.setdefault(part, {})[base] = key
    parted = {p: keys for p, keys in by_part.items() if {*keys} & {*INPUT_NAMES, *LABEL_NAMES}}
    if spec.keys or not parted:
        inputs, labels = find_keys(known, spec, where)
        used = {*keys_in(inputs, known), labels}
        return [Keys(inputs, labels, {key: key for key in known if key not in used})]
    found = []
    for part in dict.fromkeys(PARTS.values()):
        if part not in parted:
            continue
        own = parted[part]
        inputs, labels = find_keys(list(own), spec, f"{where}, part {part}")
        used = {*keys_in(inputs, own), labels}
        more = {base: key for base, key in own.items() if base not in used}
        joined = JOINED.join(own[base] for base in keys_in(inputs, own))
        found.append(Keys(joined, own[labels], more, part))
    return found


def split_part(key: str) -> tuple[str, str]:
    """The part that a key names and the rest of it: ``x_train`` is ``("train", "x")``; no part is empty.

    >>> split_part("x_train"), split_part("Test-Images"), split_part("yval"), split_part("contrast")
    (('train', 'x'), ('test', 'images'), ('val', 'y'), ('', 'contrast'))
    """
    words = [w for w in re.split(r"[_\-. ]+", key.lower()) if w]
    joined = re.fullmatch(r"([xy])(\w+)|(\w+)([xy])", words[0]) if len(words) == 1 else None
    if joined:  # xtrain, trainx
        words = [w for w in joined.groups() if w]
    named = [w for w in words if w in PARTS]
    if len(named) != 1 or len(words) < 2:
        return "", key
    return PARTS[named[0]], "_".join(w for w in words if w not in PARTS)


def inputs_at(found: Mapping[str, Any], key: str) -> Any:
    """What lies at a key of inputs: one value, or several by name.

    >>> inputs_at({"ids": [1], "mask": [1], "label": 0}, "ids+mask")
    {'ids': [1], 'mask': [1]}
    """
    return found[key] if key in found else {part: found[part] for part in key.split(JOINED)}


def keys_in(key: str, known: Collection[str]) -> list[str]:
    """The keys that a key of inputs stands for."""
    return [key] if key in known else key.split(JOINED)


def _usual(known: Sequence[str], names: Sequence[str], what: str, where: str) -> str:
    hits = [key for name in names for key in known if key.lower() == name]
    if len(hits) == 1:
        return hits[0]
    found = ", ".join(known[:_MAX_SHOWN]) + (", ..." if len(known) > _MAX_SHOWN else "")
    remedy = f"say which: --keys inputs=NAME,labels=NAME (found {found or 'nothing'})"
    tokens = [key for key in known if key in TOKENS]
    if not hits and what == "inputs" and tokens:
        return JOINED.join(tokens)
    if not hits:
        raise DataError(f"{where}: no {what} under a usual name ({', '.join(names[:6])}, ...); {remedy}")
    raise DataError(f"{where}: the {what} may be {' or '.join(hits)}; {remedy}")
