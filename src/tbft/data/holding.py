"""Inputs of a dataset, collected one by one: held in memory, or read again on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tbft.data.extremes import Values, values_of
from tbft.data.inputs import Fitted, fit_inputs
from tbft.data.items import Input
from tbft.data.layout import Fitting
from tbft.data.lazy import LazyRows, as_array, content_hash
from tbft.data.members import some
from tbft.data.picture_notes import GRAY_TO_COLOR, Tally
from tbft.data.ranges import settle_range
from tbft.data.spec import InputSpec
from tbft.data.values import as_numbers, finite_floats
from tbft.errors import DataError
from tbft.packing import Packing

Array = npt.NDArray[Any]


#: The note on inputs that are random.
RANDOM = (
    "inputs are random (augmented?): one draw of each sample is used throughout; give the set without its "
    "random transforms"
)


class Held:
    """Inputs in memory.

    Args:
        spec: what the model takes.
        name: of the set, for messages.
    """

    def __init__(self, spec: InputSpec, name: str) -> None:
        self._shapes = _Shapes(spec, name)
        self._spec, self._name = spec, name
        self._arrays: list[Array] = []
        self._packing: Packing | None = None

    def add(self, one: Input) -> None:
        """Take the next input."""
        if self._arrays and one.packing != self._packing:
            raise DataError(
                f"{self._name}: item {len(self._arrays)} has the inputs {one.packing}, the first "
                f"{self._packing}; make them one size (padding='max_length' in a tokenizer)"
            )
        self._packing = one.packing
        self._shapes.add(one)
        self._arrays.append(one.array)

    def fitted(self, tally: Tally) -> Fitted:
        """All of them, as :class:`~tbft.data.samples.Samples` holds them.

        Args:
            tally: counts pictures whose colors were changed.

        Raises:
            DataError: inputs of mixed shapes, or of values that cannot be used.
        """
        colored = self._shapes.settle(tally)
        stacked = np.stack([_colored(a) if colored else a for a in self._arrays])
        self._arrays.clear()
        if self._packing is not None:
            return Fitted(stacked, as_taken=True, packing=self._packing)
        # Pictures of Pillow have been scaled already.
        spec = replace(self._spec, resize=None) if self._shapes.sizes else self._spec
        return fit_inputs(torch.from_numpy(stacked) if self._shapes.of_tensors else stacked, spec, self._name)


class Reread:
    """Inputs of which only a summary is kept; they are read again when they are indexed.

    Args:
        read: position -> the input there.
        spec: what the model takes.
        name: of the set, for messages.
    """

    def __init__(self, read: Callable[[int], Input], spec: InputSpec, name: str) -> None:
        self._shapes = _Shapes(spec, name)
        self._read, self._spec, self._name = read, spec, name
        self._values: Values | None = None
        self._hashes: list[bytes] = []

    def add(self, one: Input) -> None:
        """Take the next input."""
        self._shapes.add(one)
        where = f"{self._name}: item {len(self._hashes)}"
        array = as_numbers(one.array, where)[None]
        array = finite_floats(array, where) if array.dtype.kind == "f" else array
        values = values_of(array)
        if self._values is not None and values.dtype != self._values.dtype:
            kinds = f"{values.dtype}, the first {self._values.dtype}"
            raise DataError(f"{where}: the input is {kinds}; make all of them one type")
        self._values = values if self._values is None else self._values.joined(values)
        self._hashes.append(content_hash(array))

    def fitted(self, tally: Tally) -> Fitted:
        """All of them, to be made when they are indexed; see :meth:`Held.fitted`."""
        assert self._values is not None
        colored = self._shapes.settle(tally)
        spec = replace(self._spec, resize=None) if self._shapes.sizes else self._spec
        conversion = settle_range(self._values, spec, self._name)
        fitting = Fitting(conversion, spec, self._shapes.of_tensors, self._name)

        def rows(at: npt.NDArray[np.int64]) -> Array:
            arrays = [self._read(int(i)).array for i in at]
            return np.stack([_colored(a) if colored else a for a in arrays])

        first = rows(np.array([0]))
        one = fitting.apply(first)
        count = len(self._hashes)
        taken = one.nbytes * count >> 20
        note = (
            f"the inputs take {taken:,} MiB, more than --data-memory {spec.memory_mib}: they are read from "
            "the dataset again whenever they are needed"
        )
        made = LazyRows(
            lambda at: fitting.apply(rows(at)),
            (count, *one.shape[1:]),
            one.dtype,
            spec.memory_mib << 20,
            np.array(self._hashes, dtype=object),
        )
        return Fitted(as_array(made), conversion.as_taken, (*fitting.notes(first), note))


class _Shapes:
    """What shapes and sizes the inputs have, and whether they go together."""

    def __init__(self, spec: InputSpec, name: str) -> None:
        self._spec, self._name = spec, name
        self.sizes: set[tuple[int, int]] = set()  # of pictures of Pillow, before they were scaled
        self.of_tensors = True
        self._first: dict[tuple[int, ...], int] = {}  # shape -> the first input that has it
        self._gray: list[int] = []
        self._count = 0

    def add(self, one: Input) -> None:
        self.of_tensors = self.of_tensors and one.of_tensor
        self._first.setdefault(one.array.shape, self._count)
        if one.size is not None:
            self.sizes.add(one.size)
            if one.array.ndim == 2:
                self._gray.append(self._count)
        self._count += 1

    def settle(self, tally: Tally) -> bool:
        """Whether gray pictures among colored ones have to get three channels.

        Raises:
            DataError: the shapes differ otherwise.
        """
        if len(self.sizes) > 1 and self._spec.resolution is None:
            shown = some(f"{w}x{h}" for w, h in sorted(self.sizes))
            raise DataError(
                f"{self._name}: pictures of {len(self.sizes)} sizes: {shown} px; give the size that the "
                "model takes (--resolution 224, InputSpec(resolution=224)), and they are resized and cropped"
            )
        colored = bool(self.sizes) and {len(shape) for shape in self._first} == {2, 3}
        if colored:
            for i in self._gray:
                tally.add((GRAY_TO_COLOR,), f"item {i}")
        if len({(*shape, 3) if colored and len(shape) == 2 else shape for shape in self._first}) > 1:
            shown = ", ".join(f"{shape} (item {i})" for shape, i in list(self._first.items())[:3])
            raise DataError(f"{self._name}: inputs of mixed shapes: {shown}; make them one size")
        return colored


def _colored(array: Array) -> Array:
    return np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array


def holder_for(
    first: Input, read: Callable[[int], Input] | None, count: int, spec: InputSpec, name: str, is_random: bool
) -> tuple[Held | Reread, tuple[str, ...]]:
    """What holds the inputs: memory, if they fit there or can be read only once; and a note.

    Args:
        first: the first input.
        read: position -> the input there; None if they can be read only once.
        count: number of inputs, if they can be read again.
        is_random: whether inputs differ when they are read again.

    Raises:
        DataError: the inputs are random, and do not fit into memory.
    """
    notes = (RANDOM,) if is_random else ()
    if read is None:
        return Held(spec, name), notes
    fits = first.array.size * (1 if first.array.dtype == np.uint8 else 4) * count <= spec.memory_mib << 20
    if is_random and not fits:
        raise DataError(
            f"{name}: its inputs are random (augmented?), and exceed --data-memory {spec.memory_mib}, "
            "so each would differ whenever it is read; leave the random transforms out"
        )
    return Held(spec, name) if fits or first.packing is not None else Reread(read, spec, name), notes
