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

from tbft.data.class_names import check_labels, class_positions
from tbft.data.conditions import Where, as_conditions, matching
from tbft.data.inputs import fit_inputs, normalize
from tbft.data.labels import parse_labels
from tbft.data.lazy import CHUNK, as_array, as_lazy
from tbft.data.spec import InputSpec, Preprocessing
from tbft.data.values import token_ids
from tbft.errors import DataError
from tbft.packing import Packing

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """Labeled samples.

    Attributes:
        inputs: pictures as ``uint8`` (n, height, width, channels), or anything else as ``float32``
            in the layout that the model takes, (n, ...). Never written to; may be memory-mapped, or rows
            that are made when they are indexed (:class:`~tbft.data.lazy.LazyRows`).
        labels: ``int64`` (n,), the index of a class.
        class_names: what the labels mean, in the order of the model's outputs.
        ids: ``int64`` (n,), the position of each sample in the set it was read from. Random
            drifts are seeded by it, so they do not depend on order, subset or batch size.
        attributes: further arrays (n,), such as ``subject``, ``domain`` or ``file``.
        name: where the samples come from, for messages and records.
        notes: what was assumed, and what was left out and why, a sentence each; every command that reads
            data prints them.
        preprocessing: what the model's inputs are made of these by; sizes are fitted already.
        as_taken: the inputs are as the model takes them, normalized or otherwise, and no mean and std are
            to be applied.
        targets: ``float32`` (n, ...), what another task than classification is tuned to; labels are then all
            zero. None: labels are classes.
        token_ids: the inputs are whole numbers that stand for words, and the model takes them as ``int64``.
        hashes: (n,) of the inputs as they were read, where a drift has been put on them since; see
            :func:`~tbft.data.copies.digests`.
        packing: of several arrays a sample, which lie side by side in `inputs` (n, width) and are taken apart
            before the model; None: there is one.
    """

    inputs: Array
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    attributes: Mapping[str, Array] = field(default_factory=dict)
    name: str = "samples"
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    as_taken: bool = False
    targets: Array | None = None
    token_ids: bool = False
    hashes: Array | None = None
    packing: Packing | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def are_pictures(self) -> bool:
        """True for ``uint8`` pictures, to which pixel drifts can be applied."""
        return self.inputs.dtype == np.uint8

    def subset(self, indices: npt.ArrayLike | slice) -> Samples:
        """The samples at these positions, in this order; a slice copies nothing."""
        at = indices if isinstance(indices, slice) else np.asarray(indices)
        return replace(
            self,
            inputs=self.inputs[at] if (lazy := as_lazy(self.inputs)) is None else as_array(lazy.subset(at)),
            labels=self.labels[at],
            ids=self.ids[at],
            attributes={key: values[at] for key, values in self.attributes.items()},
            targets=None if self.targets is None else self.targets[at],
            hashes=None if self.hashes is None else self.hashes[at],
        )

    def where(self, conditions: Where) -> Samples:
        """The samples whose attributes meet all conditions; see :func:`as_conditions`.

        Raises:
            DataError: no such attribute or value, or no sample left.
        """
        wanted = as_conditions(conditions)
        if not wanted:
            return self
        keep = matching(self.attributes, wanted, self.name)
        return self if keep.all() else self.subset(np.flatnonzero(keep))

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64] | slice) -> tuple[Tensor, Tensor]:
        """Inputs and labels of some samples, as the model takes them.

        Returns:
            inputs ``float32``, pictures as (n, channels, height, width) in [0, 1], then normalized as
            `preprocessing` says, or token ids ``int64``; labels ``int64`` (n,), or targets ``float32``
            (n, ...).
        """
        x = np.array(self.inputs[indices])
        y = torch.from_numpy(np.array((self.labels if self.targets is None else self.targets)[indices]))
        if self.are_pictures:
            x = x.transpose(0, 3, 1, 2).astype(np.float32, order="C") / np.float32(255)
        if self.token_ids:
            return torch.from_numpy(x.astype(np.int64)), y
        inputs = torch.from_numpy(x.astype(np.float32, copy=False))
        return (inputs if self.as_taken else normalize(inputs, self.preprocessing, self.name)), y

    def noted(self, *notes: str) -> Samples:
        """The same samples with these notes before their own."""
        return replace(self, notes=(*notes, *self.notes))

    def class_counts(self) -> dict[str, int]:
        """Samples of each class, absent ones included."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))


def make_samples(
    inputs: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    name: str = "samples",
    spec: InputSpec | None = None,
) -> Samples:
    """Check arrays, or tensors on any device, and make :class:`Samples` of them.

    Args:
        inputs: a mapping of several arrays (n, ...) by the names by which the model takes them; or pictures
            (n, height, width[, channels]), or with the channels first, of 8 or 16 bits, of
            booleans or of floats in [0, 1]; or any other numbers (n, ...) in the layout that the model takes.
        labels: class numbers (n,) or (n, 1) from 0, one-hot rows, booleans, or words.
        class_names: what the labels mean; default: the numbers "0", "1", ..., or the words in order.
        attributes: further arrays (n,), such as ``subject``.
        spec: what the model takes, and what is known of the values; default: anything.

    Raises:
        DataError: no samples, arrays of different length, labels that are no class, or inputs that are not
            finite, or whose range is ambiguous.

    >>> make_samples(np.zeros((3, 8, 8), np.uint8), [0, 1, 1]).class_counts()
    {'0': 1, '1': 2}
    """
    spec = spec or InputSpec()
    ranged = fit_inputs(inputs, spec, name)
    count = len(ranged.inputs)
    if not hasattr(labels, "__len__") or len(labels) != count:
        shape = np.shape(labels) if not isinstance(labels, (list, tuple)) else (len(labels),)
        raise DataError(f"{name}: {count} inputs but labels of shape {tuple(shape)}; one label per sample")
    own = spec.class_names if class_names is None else class_names
    parsed = parse_labels(labels, name, own, spec.labels_from, spec.targets)
    samples = Samples(
        inputs=ranged.inputs,
        labels=parsed.indices,
        class_names=parsed.class_names,
        ids=np.arange(count, dtype=np.int64),
        attributes={key: np.asarray(values) for key, values in (attributes or {}).items()},
        name=name,
        notes=(*ranged.notes, *parsed.notes),
        preprocessing=spec.preprocessing,
        as_taken=ranged.as_taken,
        targets=parsed.targets,
        token_ids=spec.token_ids if ranged.packing is None else ranged.packing.is_whole,
        packing=ranged.packing,
    )
    return samples if parsed.targets is not None else match_classes(samples, spec.class_names)


def match_classes(samples: Samples, class_names: Sequence[str] | None) -> Samples:
    """The same samples with their labels in the order in which the model names the classes.

    Names are compared as they look, after Unicode normalization.

    Raises:
        DataError: the set names a class that the model does not have.

    >>> pets = make_samples(np.zeros((2, 8, 8), np.uint8), [0, 1], ["dog", "cat"])
    >>> match_classes(pets, ["cat", "dog"]).labels
    array([1, 0])
    """
    if class_names is None or samples.class_names == tuple(class_names):
        return samples
    position = class_positions(samples.class_names, class_names, samples.name)
    return replace(samples, labels=position[samples.labels], class_names=tuple(class_names))


def fit_samples(samples: Samples, spec: InputSpec) -> Samples:
    """Existing samples, matched to the classes and the preprocessing of a model.

    Raises:
        DataError: a class that the model does not have, or another preprocessing than the model's.
    """
    if samples.targets is None:
        samples = match_classes(samples, spec.class_names)
    if spec.class_names is not None and samples.targets is None:
        check_labels(samples.labels, spec.class_names, samples.name)
    if samples.packing is not None:
        return samples
    if spec.token_ids:
        return replace(samples, inputs=token_ids(samples.inputs, samples.name), token_ids=True)
    if samples.preprocessing == spec.preprocessing or spec.preprocessing == Preprocessing():
        return samples
    own = samples.preprocessing
    spec = spec.completed_with(own, own.settled, f"{samples.name} as it was read")
    samples = replace(samples, preprocessing=spec.preprocessing)
    if samples.as_taken or not len(samples):
        return samples
    fitted = fit_inputs(samples.inputs, spec, samples.name, are_scaled=own.changes_values)
    notes = (*fitted.notes, *samples.notes)
    return replace(samples, inputs=fitted.inputs, as_taken=fitted.as_taken, notes=notes)


def digest(samples: Samples) -> str:
    """SHA-256 over inputs, labels and ids, in hex: equal for two sets only if they are the same."""
    found = hashlib.sha256(f"{samples.inputs.dtype} {samples.inputs.shape}".encode())
    for start in range(0, len(samples), CHUNK):
        found.update(np.ascontiguousarray(samples.inputs[start : start + CHUNK]).data)
    found.update(samples.labels.tobytes() + samples.ids.tobytes())
    if samples.targets is not None:
        found.update(np.ascontiguousarray(samples.targets).tobytes())
    found.update(f"{samples.preprocessing} {samples.as_taken}".encode())
    return found.hexdigest()
