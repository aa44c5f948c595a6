"""Samples: inputs, labels and what is known of each, held as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.errors import DataError, unknown

Array = npt.NDArray[Any]

#: Without class names, a label from here on is taken for something else, such as an id.
MOST_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class Samples:
    """Labeled samples.

    Attributes:
        inputs: pictures as ``uint8`` (n, height, width, channels), or anything else as ``float32``
            in the layout that the model takes, (n, ...). Never written to; may be memory-mapped.
        labels: ``int64`` (n,), the index of a class.
        class_names: what the labels mean, in the order of the model's outputs.
        ids: ``int64`` (n,), the position of each sample in the set it was read from. Random
            drifts are seeded by it, so they do not depend on order, subset or batch size.
        attributes: further arrays (n,), such as ``subject``, ``domain`` or ``file``.
        name: where the samples come from, for messages and records.
        notes: what was assumed, and what was left out and why, a sentence each; every command that reads
            data prints them.
    """

    inputs: Array
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    attributes: Mapping[str, Array] = field(default_factory=dict)
    name: str = "samples"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def are_pictures(self) -> bool:
        """True for ``uint8`` pictures, which pixel drifts can be put on."""
        return self.inputs.dtype == np.uint8

    def subset(self, indices: npt.ArrayLike | slice) -> Samples:
        """The samples at these positions, in this order; a slice copies nothing."""
        at = indices if isinstance(indices, slice) else np.asarray(indices)
        return replace(
            self,
            inputs=self.inputs[at],
            labels=self.labels[at],
            ids=self.ids[at],
            attributes={key: values[at] for key, values in self.attributes.items()},
        )

    def where(self, conditions: Mapping[str, str]) -> Samples:
        """The samples whose attributes have these values, compared as text.

        Raises:
            DataError: no such attribute, or no sample left.
        """
        keep = np.ones(len(self), dtype=bool)
        for key, value in conditions.items():
            if key not in self.attributes:
                raise DataError(f"{self.name}: {unknown('attribute', key, self.attributes)}")
            keep &= self.attributes[key].astype(str) == value
            if not keep.any():
                values = sorted(set(self.attributes[key].astype(str).tolist()))
                shown = ", ".join(values[:12]) + (", ..." if len(values) > 12 else "")
                raise DataError(f"{self.name}: no sample has {key}={value}; {key} is one of {shown}")
        return self if keep.all() else self.subset(np.flatnonzero(keep))

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64] | slice) -> tuple[Tensor, Tensor]:
        """Inputs and labels of some samples, as the model takes them.

        Returns:
            inputs ``float32``, pictures as (n, channels, height, width) in [0, 1]; labels ``int64`` (n,).
        """
        x = np.array(self.inputs[indices])
        y = torch.from_numpy(np.array(self.labels[indices]))
        if not self.are_pictures:
            return torch.from_numpy(x.astype(np.float32, copy=False)), y
        return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32, order="C") / np.float32(255)), y

    def class_counts(self) -> dict[str, int]:
        """Samples of each class, absent ones included."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))


def make_samples(
    inputs: Array,
    labels: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, Array] | None = None,
    name: str = "samples",
    notes: Sequence[str] = (),
) -> Samples:
    """Check arrays and make :class:`Samples` of them.

    Args:
        inputs: ``uint8`` pictures (n, height, width[, channels]) or finite floats (n, ...).
        labels: integers (n,) from 0.
        class_names: default: the numbers "0", "1", ...
        notes: what was assumed, and what was left out and why, a sentence each.

    Raises:
        DataError: no samples, arrays of different length, labels that are no class, or inputs
            that are not finite.

    >>> make_samples(np.zeros((3, 8, 8), np.uint8), [0, 1, 1]).class_counts()
    {'0': 1, '1': 2}
    """
    y = np.asarray(labels)
    if len(inputs) == 0:
        raise DataError(f"{name}: there are no samples in it")
    if y.ndim != 1 or len(y) != len(inputs):
        raise DataError(f"{name}: {len(inputs)} inputs but labels of shape {y.shape}; one label a sample")
    whole = y.dtype.kind in "iu" or (y.dtype.kind == "f" and np.array_equal(y, np.rint(y)))
    if not whole:
        raise DataError(f"{name}: labels have to be whole numbers from 0, not {y.dtype}")
    y = y.astype(np.int64)
    if class_names is None:
        if y.max() >= MOST_CLASSES:
            raise DataError(f"{name}: label {int(y.max())} is no class number; number the classes from 0")
        class_names = [str(i) for i in range(int(y.max()) + 1)]
    check_labels(y, class_names, name)
    return Samples(
        inputs=_checked_inputs(inputs, name),
        labels=y,
        class_names=tuple(str(c) for c in class_names),
        ids=np.arange(len(y), dtype=np.int64),
        attributes=dict(attributes or {}),
        name=name,
        notes=tuple(notes),
    )


def match_classes(samples: Samples, class_names: Sequence[str] | None) -> Samples:
    """The same samples with their labels in the order in which the model names the classes.

    Raises:
        DataError: the set names a class that the model has not.

    >>> pets = make_samples(np.zeros((2, 8, 8), np.uint8), [0, 1], ["dog", "cat"])
    >>> match_classes(pets, ["cat", "dog"]).labels
    array([1, 0])
    """
    if class_names is None or samples.class_names == tuple(class_names):
        return samples
    for own in samples.class_names:
        if own not in class_names:
            raise DataError(
                f"{samples.name}: the model has no such class: {unknown('class', own, class_names)}"
            )
    position = np.array([list(class_names).index(own) for own in samples.class_names])
    return replace(samples, labels=position[samples.labels], class_names=tuple(class_names))


def check_labels(labels: npt.NDArray[np.int64], class_names: Sequence[str], name: str) -> None:
    """Raise DataError if a label is not the index of a class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{name}: {len(wrong)} labels are out of range: sample {first} has label {int(labels[first])}, "
            f"but there are {len(class_names)} classes (0 to {len(class_names) - 1})"
        )


def _checked_inputs(inputs: Array, name: str) -> Array:
    if inputs.dtype == np.uint8:
        if inputs.ndim == 3:
            inputs = inputs[..., None]
        if inputs.ndim != 4:
            raise DataError(f"{name}: uint8 pictures are (n, height, width, channels), not {inputs.shape}")
        return inputs
    if inputs.dtype.kind not in "fiu":
        raise DataError(f"{name}: inputs have to be numbers, not {inputs.dtype}")
    floats = inputs.astype(np.float32, copy=False)
    bad = ~np.isfinite(floats.reshape(len(floats), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"{name}: {int(bad.sum())} samples have NaN or infinite values, the first is sample "
            f"{int(np.flatnonzero(bad)[0])}; remove or repair them"
        )
    return floats


def digest(samples: Samples) -> str:
    """SHA-256 over inputs, labels and ids, in hex: what two sets share only if they are the same."""
    found = hashlib.sha256(f"{samples.inputs.dtype} {samples.inputs.shape}".encode())
    for start in range(0, len(samples), 1024):
        found.update(np.ascontiguousarray(samples.inputs[start : start + 1024]).data)
    found.update(samples.labels.tobytes() + samples.ids.tobytes())
    return found.hexdigest()
