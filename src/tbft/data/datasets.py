"""Samples from datasets and loaders of torch, and from whatever has items like theirs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tbft.data.keys import CLASS_NAMES, find_keys
from tbft.data.labels import plain_label
from tbft.data.loaders import items_of_loader
from tbft.data.members import some
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.viewing import COLOR_TO_GRAY, GRAY_TO_COLOR, Tally, as_viewed, resize
from tbft.errors import DataError

Array = npt.NDArray[Any]


def is_dataset(data: Any) -> bool:
    """Can samples be collected from it, one by one or in batches?"""
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
    value an item beside input and label becomes an attribute; the rest is left out and noted.

    Args:
        data: a map-style or iterable dataset, anything with ``len()`` and items, or a ``DataLoader``.
        spec: what the model takes; pictures of Pillow are fitted to it one by one.

    Raises:
        DataError: no items, items of another form, or inputs of mixed shapes.
    """
    notes: list[str] = []
    items = items_of_loader(data, notes) if isinstance(data, DataLoader) else _items(data)
    total = len(data) if isinstance(data, Sized) and not isinstance(data, DataLoader) else None
    got = _Collected(spec, name)
    for item in tqdm(items, f"reading {name}", total, unit="", leave=False, disable=None):
        got.take(item)
    inputs = got.stacked()
    attributes = got.attributes(getattr(data, "metadata_fields", None), notes)
    own = class_names_of(data, name)
    # Pictures of Pillow have been scaled already.
    fitted = replace(spec, resize=None) if got.scaled else spec
    samples = make_samples(inputs, got.labels, own, attributes, name, fitted)
    samples = replace(samples, preprocessing=spec.preprocessing)
    return samples.noted(*got.tally.sentences(name), *notes)


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
    inner = getattr(data, "dataset", None)
    return None if inner is None or inner is data else class_names_of(inner, name)


def _items(data: Any) -> Iterator[Any]:
    """A dataset need not be iterable by itself: indexing is all that torch asks of one."""
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        return (data[i] for i in range(len(data)))
    return iter(data)


@dataclass
class _Collected:
    """What the items held, in order."""

    spec: InputSpec
    name: str
    inputs: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    more: list[dict[str, Any]] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    sizes: set[tuple[int, ...]] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    scaled: bool = False

    def take(self, item: Any) -> None:
        """Add one item."""
        x, y, more = self._parts(item)
        self.inputs.append(self._input(x))
        self.labels.append(plain_label(y))
        self.more.append({key: plain_label(value) for key, value in more.items()})

    def _parts(self, item: Any) -> tuple[Any, Any, dict[str, Any]]:
        where = f"{self.name}: item {len(self.inputs)}"
        if isinstance(item, (tuple, list)):
            named: Mapping[str, Any] = {f"item_{i}": value for i, value in enumerate(item)}
            keys = self.spec.keys or {"inputs": "item_0", "labels": "item_1"}
            if len(item) < 2 and not self.spec.keys:
                raise DataError(f"{where} has no label; items are (input, label)")
        elif isinstance(item, Mapping):
            named, keys = item, self.spec.keys or {}
        else:
            raise DataError(
                f"{where} is a {type(item).__name__}; items are (input, label) or mappings of them"
            )
        at = find_keys([str(k) for k in named], replace(self.spec, keys=keys), where)
        more = {str(k): value for k, value in named.items() if k not in at}
        return named[at[0]], named[at[1]], more

    def _input(self, x: Any) -> Any:
        if isinstance(x, Image.Image):
            x = self._picture(x)
        elif isinstance(x, Tensor):
            x = x.detach().cpu()
        elif isinstance(x, (Mapping, str, bytes)) or x is None:
            raise DataError(
                f"{self.name}: the input of item {len(self.inputs)} is a {type(x).__name__}; "
                "tbft takes one array, tensor or picture a sample"
            )
        else:
            x = np.asarray(x)
        self.shapes.add(tuple(x.shape))
        return x

    def _picture(self, picture: Image.Image) -> Array:
        where, spec = f"item {len(self.inputs)}", self.spec
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what matters of what decoders say is in the notes
                shown, done = as_viewed(picture, keep_alpha=spec.channels == 4)
        except DataError as error:
            raise DataError(f"{self.name}: the picture of {where} cannot be used: {error}") from error
        self.tally.add(done, where)
        self.sizes.add(shown.size)
        if spec.channels in (1, 3) and len(shown.getbands()) != spec.channels:
            self.tally.add((COLOR_TO_GRAY if spec.channels == 1 else GRAY_TO_COLOR,), where)
            shown = shown.convert("L" if spec.channels == 1 else "RGB")
        if spec.resolution is not None:
            self.scaled = True
            shown = resize(shown, spec.resolution, spec.resize, spec.crop)
        return np.asarray(shown)

    def stacked(self) -> Array | Tensor:
        """All inputs in one array, or in one tensor where they were tensors."""
        if not self.inputs:
            raise DataError(f"{self.name}: there are no samples in it")
        if len(self.sizes) > 1 and self.spec.resolution is None:
            shown = some(f"{w}x{h}" for w, h in sorted(self.sizes))
            raise DataError(
                f"{self.name}: pictures of {len(self.sizes)} sizes: {shown} px; give the size that the model "
                "takes (--resolution 224, InputSpec(resolution=224)), and they are resized and cropped"
            )
        if self.sizes and {len(shape) for shape in self.shapes} == {2, 3}:
            self._make_gray_pictures_color()
        if len(self.shapes) > 1:
            shown = ", ".join(str(s) for s in sorted(self.shapes, key=str)[:3])
            raise DataError(f"{self.name}: inputs of mixed shapes: {shown}; make them one size")
        if all(isinstance(x, Tensor) for x in self.inputs):
            return torch.stack(self.inputs)
        return np.stack(self.inputs)

    def _make_gray_pictures_color(self) -> None:
        for i, x in enumerate(self.inputs):
            if x.ndim == 2:
                self.inputs[i] = np.repeat(x[..., None], 3, axis=2)
                self.tally.add((GRAY_TO_COLOR,), f"item {i}")
        self.shapes = {tuple(x.shape) for x in self.inputs}

    def attributes(self, columns: Sequence[str] | None, notes: list[str]) -> dict[str, Array]:
        """What becomes an attribute; the rest is noted."""
        found: dict[str, Array] = {}
        for key in dict.fromkeys(key for more in self.more for key in more):
            array = _one_kind([more.get(key) for more in self.more])
            if array is not None and array.ndim == 1:
                found[key] = array
            elif array is not None and array.ndim == 2 and columns and array.shape[1] == len(columns):
                found |= {str(c): array[:, i] for i, c in enumerate(columns)}
            else:
                notes.append(f"{key} of the items is left out: it is not one number or word a sample")
        return found


def _one_kind(values: list[Any]) -> Array | None:
    """The values as an array of numbers or words; None if they are none."""
    words = [isinstance(v, (str, bytes)) for v in values]
    if any(words):
        return np.array(values, dtype=str) if all(words) else None
    numbers = [float("nan") if v is None else v for v in values]
    try:
        array = np.array(numbers)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None
