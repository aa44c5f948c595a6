"""Samples from arrays by name: which are inputs, labels and attributes, and of which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.data.inputs import Fitted, packed
from tbft.data.keys import CLASS_NAMES, LABEL_NAMES, Keys, find_parts, keys_in, split_part
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.values import numpy_of
from tbft.errors import DataError
from tbft.packing import Packing

Array = npt.NDArray[Any]


class Objects:
    """Stands for an array of Python objects, which is never unpickled."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def samples_of_arrays(arrays: Mapping[str, Any], spec: InputSpec, name: str) -> Samples:
    """Samples from arrays or tensors by name.

    Inputs and labels lie under the keys that `spec` names or under usual ones; where the keys name parts
    (``x_train``, ``test_labels``), all parts are read, with an attribute ``part``. Other arrays
    with one entry per sample become attributes; what is left out is noted.

    Raises:
        DataError: no inputs or no labels, or several that may be meant; or what is wrong in them.
    """
    arrays = dict(arrays)
    own = _class_names(arrays, name)
    parts = find_parts(list(arrays), spec, name)
    packing = _pack_several(arrays, parts, name)
    for part in parts:
        for what, key in (("inputs", part.inputs), ("labels", part.labels)):
            refuse_objects(arrays[key], what, key, name)
            if not _shape(arrays[key]):
                raise DataError(f"{name}: there are no samples in it: {what} {key!r} hold a single value")
    attributes, used = _attributes(arrays, parts)
    inputs = _joined([arrays[p.inputs] for p in parts], "inputs", name)
    if packing is not None:
        inputs = Fitted(inputs, as_taken=True, packing=packing)
    labels = _joined([_column(arrays[p.labels]) for p in parts], "labels", name)
    notes = _left_out({key: a for key, a in arrays.items() if key not in used})
    return make_samples(inputs, labels, own, attributes, name, spec).noted(*notes)


def _pack_several(arrays: dict[str, Any], parts: Sequence[Keys], name: str) -> Packing | None:
    """Put several inputs of a part side by side, under their joined key; None if each part has one array."""
    found: set[Packing | None] = set()
    for part in parts:
        keys = keys_in(part.inputs, arrays)
        if len(keys) == 1:
            found.add(None)
            continue
        for key in keys:
            refuse_objects(arrays[key], "inputs", key, name)
        rows = packed({split_part(key)[1]: arrays.pop(key) for key in keys}, name)
        arrays[part.inputs] = rows.inputs
        found.add(rows.packing)
    if len(found) > 1:
        raise DataError(f"{name}: the parts have inputs of different sizes: {' and '.join(map(str, found))}")
    return found.pop()


def refuse_objects(value: Any, what: str, key: str, name: str) -> None:
    """Raise DataError for an array of Python objects, with the remedy."""
    if _of_objects(value):
        kind = "str" if what == "labels" else "'float32'"
        raise DataError(
            f"{name}: the array {key!r} ({what}) holds Python objects, which are not read: that could run "
            f"code; save them as numbers or text: {key}.astype({kind})"
        )


def _class_names(arrays: dict[str, Any], name: str) -> list[str] | None:
    """Take the class names out of the arrays, if there are any."""
    labeled = any(key.lower() in LABEL_NAMES for key in arrays)
    for key in CLASS_NAMES:
        if key not in arrays or (key == "classes" and not labeled):
            continue
        refuse_objects(arrays[key], "class names", key, name)
        own = arrays.pop(key)
        listed = np.asarray(own).reshape(-1).tolist()
        return [c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in listed]
    return None


def _attributes(arrays: Mapping[str, Any], parts: Sequence[Keys]) -> tuple[dict[str, Array], set[str]]:
    """What has one entry per sample in every part, and the keys of everything that is used."""
    found: dict[str, Array] = {}
    used = {key for p in parts for key in (p.inputs, p.labels)}
    counts = [len(arrays[p.inputs]) for p in parts]
    for attribute in dict.fromkeys(a for p in parts for a in p.more):
        own = [arrays[p.more[attribute]] for p in parts if attribute in p.more]
        if len(own) == len(parts) and all(_is_column(a, n) for a, n in zip(own, counts, strict=True)):
            found[attribute] = np.concatenate([_column(a) for a in own])
            used |= {p.more[attribute] for p in parts}
    if parts[0].part:
        found["part"] = np.repeat([p.part for p in parts], counts)
    return found, used


def _is_column(value: Any, count: int) -> bool:
    return not _of_objects(value) and _shape(value) in ((count,), (count, 1))


def _of_objects(value: Any) -> bool:
    return isinstance(value, Objects) or (isinstance(value, np.ndarray) and value.dtype.kind == "O")


def _column(value: Any) -> Any:
    """(n, 1) as (n,)."""
    if not hasattr(value, "shape") and len(_shape(value)) != 2:
        return value
    array = numpy_of(value) if isinstance(value, Tensor) else np.asarray(value)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _shape(value: Any) -> tuple[int, ...]:
    if hasattr(value, "shape"):
        return tuple(value.shape)
    try:
        return np.shape(value)
    except ValueError:  # entries of different shapes
        return (len(value), 0)


def _joined(values: Sequence[Any], what: str, name: str) -> Any:
    """One after the other; a single one is left where it is, on disk or in memory."""
    if len(values) == 1:
        return values[0]
    shapes = {_shape(v)[1:] for v in values}
    if len(shapes) > 1:
        shown = ", ".join(str(s) for s in sorted(shapes, key=str))
        raise DataError(f"{name}: the parts have {what} of different shapes: {shown}; make them one size")
    if all(isinstance(v, Tensor) for v in values):
        return torch.cat(list(values))
    return np.concatenate([np.asarray(v) for v in values])


def _left_out(arrays: Mapping[str, Any]) -> list[str]:
    """Notes on arrays that are not used."""
    objects = sorted(key for key, a in arrays.items() if _of_objects(a))
    others = sorted(set(arrays) - set(objects))
    notes = []
    if objects:
        remedy = f"to use them save them as numbers or text: {objects[0]}.astype(str)"
        notes.append(f"left out, as they hold Python objects: {', '.join(objects)}; {remedy}")
    if others:
        notes.append(f"left out, because they do not have one entry per sample: {', '.join(others)}")
    return notes
