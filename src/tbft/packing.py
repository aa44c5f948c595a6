"""Several arrays per sample, such as token ids and their mask, side by side in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.errors import DataError

Array = npt.NDArray[Any]

#: Whole numbers up to this are exact in ``float32``.
MAX_EXACT = 1 << 24


@dataclass(frozen=True)
class Packing:
    """Where the arrays of a sample lie in a row.

    Attributes:
        names: of the arrays, in alphabetical order; those of a model that takes them by position are numbers.
        shapes: of one sample's.
        dtypes: ``int64``, ``float32`` or ``bool``.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(f"{n} {s} {d}" for n, s, d in zip(self.names, self.shapes, self.dtypes, strict=True))

    @property
    def is_whole(self) -> bool:
        """Whether all of them hold whole numbers."""
        return "float32" not in self.dtypes

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Tensors by name as rows (n, width): what :meth:`unpack` takes apart."""
        dtype = torch.int64 if self.is_whole else torch.float32
        return torch.cat([values[name].reshape(len(values[name]), -1).to(dtype) for name in self.names], 1)

    def unpack(self, x: Tensor) -> Any:
        """Rows (n, width) as the model takes them: tensors by name, or a tuple of them.

        >>> packing = Packing(("ids", "mask"), ((2,), ()), ("int64", "bool"))
        >>> packing.unpack(torch.tensor([[5, 6, 1]]))
        {'ids': tensor([[5, 6]]), 'mask': tensor([True])}
        """
        ends = accumulate(map(prod, self.shapes), initial=0)
        parts = [
            x[:, start:end].reshape(len(x), *shape).to(getattr(torch, dtype))
            for (start, end), shape, dtype in zip(pairwise(ends), self.shapes, self.dtypes, strict=True)
        ]
        if all(name.isdecimal() for name in self.names):
            return tuple(parts)
        return dict(zip(self.names, parts, strict=True))


def packing_of(values: Mapping[str, Tensor] | Sequence[Tensor]) -> Packing:
    """The packing of a batch as a model takes it."""
    named = values if isinstance(values, Mapping) else {str(i): value for i, value in enumerate(values)}
    names = tuple(sorted(named))
    kinds = [
        "bool" if t.dtype == torch.bool else "float32" if t.is_floating_point() else "int64"
        for t in (named[name] for name in names)
    ]
    return Packing(names, tuple(tuple(named[name].shape[1:]) for name in names), tuple(kinds))


def pack(values: Mapping[str, Array], name: str) -> tuple[Array, Packing]:
    """Arrays by name, each (n, ...), as rows (n, width) of ``int64``, or ``float32`` where any holds floats.

    Args:
        name: of the set, for messages.

    Raises:
        DataError: arrays of different lengths, of anything but numbers, or whole numbers that
            ``float32`` does not hold.
    """
    named = {key: np.asarray(value) for key, value in sorted(values.items())}
    for key, array in named.items():
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise DataError(
                f"{name}: the input {key!r} is not an array of numbers, one row per sample; pad sequences "
                "to one length (padding='max_length' in a tokenizer)"
            )
    counts = {key: len(array) for key, array in named.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise DataError(f"{name}: the inputs have different numbers of samples: {shown}")
    kinds = [
        "bool" if a.dtype == bool else "float32" if a.dtype.kind == "f" else "int64" for a in named.values()
    ]
    packing = Packing(tuple(named), tuple(a.shape[1:] for a in named.values()), tuple(kinds))
    dtype = np.int64 if packing.is_whole else np.float32
    for key, array in named.items():
        if (
            dtype == np.float32
            and array.dtype.kind in "iu"
            and array.size
            and np.abs(array).max() > MAX_EXACT
        ):
            raise DataError(
                f"{name}: {key!r} holds whole numbers beyond {MAX_EXACT:,} beside floats: give floats"
            )
    rows = [array.reshape(len(array), prod(array.shape[1:])).astype(dtype) for array in named.values()]
    return np.concatenate(rows, axis=1), packing
