"""The data door of the library: samples in any form that people have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from tbft.data.arrays import samples_of_arrays
from tbft.data.datasets import collect, is_dataset
from tbft.data.reading import read
from tbft.data.samples import Samples, fit_samples, make_samples
from tbft.data.spec import InputSpec
from tbft.errors import DataError, FormError

TAKEN = (
    "tbft.Samples; a pair (inputs, labels) of NumPy arrays, torch tensors or lists, or of several inputs by "
    "name and labels; a mapping of arrays by name; a torch Dataset, or anything with len() and items (input, "
    "label); a DataLoader; a path that tbft.read takes; or package.module:factory"
)


def as_samples(data: Any, spec: InputSpec | None = None, name: str = "samples") -> Samples:
    """Samples from whatever a user has.

    Args:
        data: :class:`Samples`; a pair ``(inputs, labels)`` of arrays, tensors on any device, or lists; a
            mapping of arrays by name, as in an ``.npz``; a map-style or iterable ``Dataset``; a
            ``DataLoader``; or a path or ``package.module:factory``, as for :func:`tbft.read`.
        spec: what the model takes; inputs are fitted and labels matched to it.
        name: what to call the samples in messages, where the data have no name of their own.

    Raises:
        FormError: data of another kind; the message lists what is taken.
        DataError: data of a kind that is taken, with something wrong in them.
    """
    spec = spec or InputSpec()
    if isinstance(data, Samples):
        return fit_samples(data, spec)
    if isinstance(data, (str, Path)):
        return read(data, spec)
    data = _pictures_as_items(data, name)
    if (pair := _inputs_and_labels(data)) is not None:
        return make_samples(pair[0], pair[1], name=name, spec=spec)
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data) and data:
        return samples_of_arrays(data, spec, name)
    if is_dataset(data):
        return collect(data, spec, name)
    raise FormError(f"{name}: expected {TAKEN}; got {_kind(data)}")


def _pictures_as_items(data: Any, name: str) -> Any:
    """Items, where pictures of Pillow are given in a list: in a pair, or by name; other data as they are.

    As an array, a picture would be its stored values, which may be palette indices or ink.
    """
    is_named = isinstance(data, Mapping)
    columns = list(data.values()) if is_named else list(data) if _is_pair(data) else []
    if not any(isinstance(c, (list, tuple)) and c and isinstance(c[0], Image) for c in columns):
        return data
    if len({len(c) for c in columns}) > 1:
        raise DataError(
            f"{name}: {' and '.join(str(len(c)) for c in columns)} inputs and labels; one label each"
        )
    rows = zip(*columns, strict=True)
    return [dict(zip(data, row, strict=True)) for row in rows] if is_named else list(rows)


def _inputs_and_labels(data: Any) -> tuple[Any, Any] | None:
    """Inputs, several of them by name, and labels; None for data that are not such a pair."""
    if _has_several_inputs(data):
        inputs, labels = data
        return inputs if isinstance(inputs, Mapping) else {str(i): x for i, x in enumerate(inputs)}, labels
    return (data[0], data[1]) if _is_pair(data) else None


def has_several(data: Any) -> bool:
    """Whether data in memory are known to have several inputs per sample, without reading them."""
    return data.packing is not None if isinstance(data, Samples) else _has_several_inputs(data)


def _is_pair(data: Any) -> bool:
    """Whether data are (inputs, labels), rather than a list of two items (input, label)."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    if all(hasattr(part, "__array__") for part in data):  # tensors have it, too, and what pandas has
        return True
    if isinstance(data, list) and all(isinstance(part, (tuple, Mapping)) for part in data):
        return False
    return all(isinstance(part, (list, tuple)) or hasattr(part, "__array__") for part in data)


def _has_several_inputs(data: Any) -> bool:
    """Whether data are (inputs by name or position, labels), rather than two items, or samples."""
    if not isinstance(data, (tuple, list)) or len(data) != 2 or isinstance(data[1], Mapping):
        return False
    if isinstance(data[0], Mapping):
        return hasattr(data[1], "__len__")
    if not isinstance(data[0], tuple) or len(data[0]) < 2 or not hasattr(data[1], "__len__"):
        return False
    counts = {len(x) for x in data[0] if isinstance(x, (np.ndarray, Tensor)) and x.ndim > 0}
    return counts == {len(data[1])} and all(isinstance(x, (np.ndarray, Tensor)) for x in data[0])


def _kind(data: Any) -> str:
    if isinstance(data, (tuple, list)):
        inside = ", ".join(type(part).__name__ for part in data[:4])
        return f"a {type(data).__name__} of {len(data)}: {inside}"
    if isinstance(data, (np.ndarray, Tensor)):
        return f"inputs of shape {tuple(data.shape)} without labels: give (inputs, labels)"
    if type(data).__module__.startswith("pandas"):
        return (
            f"a {type(data).__name__} of pandas: give (frame[columns].to_numpy(), frame[column].to_numpy())"
        )
    return f"{type(data).__module__}.{type(data).__name__}".removeprefix("builtins.")
