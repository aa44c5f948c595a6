"""Samples from datasets and loaders of torch, and from whatever has items like theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tbft.data.holding import Held, Reread, holder_for
from tbft.data.items import parse_item
from tbft.data.keys import CLASS_NAMES, LABEL_NAMES
from tbft.data.loaders import first_items, is_map_style, items_of
from tbft.data.picture_notes import Tally
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.errors import DataError, TbftError

Array = npt.NDArray[Any]


def is_dataset(data: Any) -> bool:
    """Whether samples can be collected from it, one by one or in batches."""
    if isinstance(data, (Dataset, DataLoader)):
        return True
    if isinstance(data, (str, bytes, Mapping, np.ndarray, Tensor)) or type(data).__module__.startswith(
        "pandas"
    ):
        return False
    if isinstance(data, (list, tuple)):
        return len(data) > 0 and all(isinstance(item, (list, tuple, Mapping)) for item in data)
    return hasattr(data, "__getitem__") and isinstance(data, Sized)


def collect(data: Any, spec: InputSpec, name: str) -> Samples:
    """Read every item of a dataset, or every batch of a loader, once.

    Items are (input, label), (input, label, more, ...) or mappings with the usual keys. What has one plain
    value per item, besides input and label, becomes an attribute; the rest is left out and noted. Inputs of a
    map-style dataset that take more than ``spec.memory_mib`` are made again whenever they are needed.

    Args:
        data: a map-style or iterable dataset, anything with ``len()`` and items, or a ``DataLoader``.
        spec: what the model takes; pictures of Pillow are fitted to it one by one.

    Raises:
        DataError: no items, items of another form, or inputs of mixed shapes.
    """
    notes: list[str] = []
    total = len(data) if isinstance(data, Sized) and not isinstance(data, DataLoader) else None
    items, can_reread = _guarded(items_of(data, name, notes), name), is_map_style(data)
    inputs: Held | Reread | None = None
    labels: list[Any] = []
    more: list[dict[str, Any]] = []
    tally = Tally()
    again = (lambda i: parse_item(data[i], spec, f"{name}: item {i}").input) if can_reread else None
    for i, raw in enumerate(tqdm(items, f"reading {name}", total, unit="", leave=False, disable=None)):
        item = parse_item(raw, spec, f"{name}: item {i}")
        labels.append(item.label)
        more.append(item.more)
        tally.add(item.input.notes, f"item {i}")
        if inputs is None:
            is_random = _are_random(data, spec, name)
            inputs, noted = holder_for(item.input, again, total or 0, spec, name, is_random)
            notes += noted
        inputs.add(item.input)
    if inputs is None:
        raise DataError(f"{name}: there are no samples in it")
    fitted = inputs.fitted(tally)
    attributes = _attributes(more, getattr(data, "metadata_fields", None), notes)
    own = class_names_of(data, name)
    notes = [*tally.sentences(name), *notes]
    return make_samples(fitted, labels, own, attributes, name, spec).noted(*notes)


def _are_random(data: Any, spec: InputSpec, name: str) -> bool:
    """Whether the first inputs differ when they are read again, where that is possible."""
    try:
        once, again = ([parse_item(raw, spec, name).input.array for raw in first_items(data)] for _ in "12")
    except Exception:  # reading all of them says what is wrong, and where
        return False
    return any(
        not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(once, again, strict=True)
    )


def _guarded(items: Iterator[Any], name: str) -> Iterator[Any]:
    """The items; where one cannot be made, a DataError says which.

    Raises:
        DataError: instead of what the code of a dataset raises, which is its cause.
    """
    for i in count():
        try:
            item = next(items)
        except StopIteration:
            return
        except (TbftError, MemoryError):
            raise
        except Exception as error:
            raise DataError(f"{name}: item {i} cannot be read: {type(error).__name__}: {error}") from error
        yield item


def class_names_of(data: Any, name: str) -> list[str] | None:
    """The class names that a dataset, or the one inside a subset or a loader, carries."""
    children = getattr(data, "datasets", None)
    if isinstance(children, (list, tuple)) and children:
        names = [class_names_of(child, name) for child in children]
        if any(n != names[0] for n in names):
            raise DataError(
                f"{name}: it joins datasets whose classes differ, so one number means two classes"
            )
        return names[0]
    for key in CLASS_NAMES:
        own = getattr(data, key, None)
        if isinstance(own, (list, tuple, np.ndarray)) and len(own):
            # Some sets name a class by several words.
            return [", ".join(map(str, c)) if isinstance(c, (list, tuple)) else str(c) for c in own]
    positions = getattr(data, "class_to_idx", None)
    if isinstance(positions, Mapping) and sorted(positions.values()) == list(range(len(positions))):
        return [str(c) for c in sorted(positions, key=positions.__getitem__)]
    features = getattr(data, "features", None)  # as datasets of Hugging Face have them
    if isinstance(features, Mapping):
        names = [getattr(features.get(key), "names", None) for key in LABEL_NAMES]
        if found := next((n for n in names if n), None):
            return [str(n) for n in found]
    inner = getattr(data, "dataset", None)
    return None if inner is None or inner is data else class_names_of(inner, name)


def _attributes(
    more: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, notes: list[str]
) -> dict[str, Array]:
    """What becomes an attribute; the rest is noted.

    Args:
        columns: names of the entries of an array that every item has, as datasets of WILDS give.
    """
    found: dict[str, Array] = {}
    for key in dict.fromkeys(key for one in more for key in one):
        array = _one_kind([one.get(key) for one in more])
        if array is not None and array.ndim == 1:
            found[key] = array
        elif array is not None and array.ndim == 2 and columns and array.shape[1] == len(columns):
            found |= {str(c): array[:, i] for i, c in enumerate(columns)}
        else:
            notes.append(f"{key} of the items is left out: it is not one number or word per sample")
    return found


def _one_kind(values: list[Any]) -> Array | None:
    """The values as an array of numbers or words; None if they are neither."""
    if any(isinstance(v, (str, bytes)) for v in values):
        words = ["" if v is None else v for v in values]  # empty: not known
        return np.array(words, dtype=str) if all(isinstance(v, (str, bytes)) for v in words) else None
    numbers = [float("nan") if v is None else v for v in values]
    try:
        array = np.array(numbers)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None
