"""Rows of an array that are made on demand: pictures of a set larger than memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]

#: Rows made at a time where all are wanted.
CHUNK = 256


class LazyRows:
    """An array whose rows are made on demand; some are kept, up to a memory limit.

    It is indexed as an array is, along its first axis alone, and always gives plain arrays. Which rows are
    kept never changes what it gives.

    Args:
        make: positions of rows (k,) -> these rows (k, ...).
        shape: of the whole array.
        dtype: of its values.
        memory_bytes: limit for the rows that are kept.
        made: all rows, where they are made already; then subsets and splits copy none of them.
        hashes: a hash of the contents of each row (n,), see :func:`content_hash`, where they are known.
    """

    def __init__(
        self,
        make: Callable[[Positions], Array],
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.uint8,
        memory_bytes: int = 0,
        hashes: Array | None = None,
        made: Array | None = None,
    ) -> None:
        self.hashes = hashes
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)
        self._store = _Store(make, shape, self.dtype, memory_bytes)
        if made is not None:
            self._store.fill(made)
        self._rows: Positions = np.arange(shape[0])

    @property
    def nbytes(self) -> int:
        """Memory that all rows would take."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> Array:
        rows = self._rows[at]
        if np.ndim(rows) == 0:
            return self._store.rows(np.array([rows]))[0]
        return self._store.rows(rows)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        whole = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for start in range(0, len(self), CHUNK):
            whole[start : start + CHUNK] = self[start : start + CHUNK]
        return whole

    def subset(self, at: Any) -> LazyRows:
        """Some rows, still to be made; they share what is kept with all others."""
        hashes = None if self.hashes is None else self.hashes[at]
        return self._like(self._store, self._rows[at], hashes)

    def mapped(
        self, function: Callable[[Array, Positions], Array], shape: tuple[int, ...] | None = None
    ) -> LazyRows:
        """The rows as a function makes them, still to be made; the type of their values stays.

        Args:
            function: (rows (k, ...), their positions (k,) in this array) -> rows (k, ...).
            shape: of one row of the result; default: as it is.
        """

        def make(at: Positions) -> Array:
            return function(self._store.rows(self._rows[at], keep=False), at)

        whole = (len(self), *(self.shape[1:] if shape is None else shape))
        return LazyRows(make, whole, self.dtype, self._store.memory_bytes, self.hashes)

    @classmethod
    def _like(cls, store: _Store, rows: Positions, hashes: Array | None) -> LazyRows:
        made = cls.__new__(cls)
        made.shape, made.dtype, made.ndim = (len(rows), *store.shape[1:]), store.dtype, len(store.shape)
        made._store, made._rows, made.hashes = store, rows, hashes
        return made


class _Store:
    """Makes rows, and keeps as many as fit.

    What is kept gives way at random: rows come in the order of epochs, of which the least recently used
    one is the next to be used.
    """

    def __init__(
        self, make: Callable[[Positions], Array], shape: tuple[int, ...], dtype: np.dtype[Any], memory: int
    ) -> None:
        self.make, self.shape, self.dtype, self.memory_bytes = make, shape, dtype, memory
        row_bytes = max(1, int(np.prod(shape[1:])) * dtype.itemsize)
        self._room = min(shape[0], memory // row_bytes)
        self._kept: Array | None = None
        self._slot = np.full(shape[0], -1, dtype=np.int64)  # of each row, where it is kept
        self._owner = np.full(self._room, -1, dtype=np.int64)  # of each slot, the row in it
        self._used = 0
        self._generator = np.random.default_rng(0)

    def rows(self, at: Positions, keep: bool = True) -> Array:
        slots = self._slot[at]
        if self._kept is not None and (slots >= 0).all():
            return self._kept[slots]
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        if self._kept is not None:
            out[slots >= 0] = self._kept[slots[slots >= 0]]
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            wanted, back = np.unique(at[missing], return_inverse=True)
            made = self.make(wanted)
            out[missing] = made[back]
            if keep and self._room:
                self._keep(wanted, made)
        return out

    def fill(self, whole: Array) -> None:
        """Keep all rows."""
        self._kept, self._used, self._room = whole, len(whole), len(whole)
        self._slot = self._owner = np.arange(len(whole))

    def _keep(self, rows: Positions, made: Array) -> None:
        if self._kept is None:
            self._kept = np.empty((self._room, *self.shape[1:]), self.dtype)
        free = min(self._room - self._used, len(rows))
        taken = self._generator.permutation(self._used)[: len(rows) - free]
        slots = np.concatenate([np.arange(self._used, self._used + free), taken])
        self._used += free
        rows, made = rows[: len(slots)], made[: len(slots)]
        gone = self._owner[slots]
        self._slot[gone[gone >= 0]] = -1
        self._owner[slots], self._slot[rows], self._kept[slots] = rows, slots, made


def content_hash(row: Array) -> bytes:
    """A hash of 16 bytes of one input; empty for one without content, all values equal."""
    flat = np.ascontiguousarray(row).reshape(-1)
    blank = flat.size == 0 or bool((flat == flat[0]).all())
    return b"" if blank else hashlib.blake2b(flat.data, digest_size=16).digest()


def as_lazy(inputs: Any) -> LazyRows | None:
    """The rows if they are made when they are indexed, None if they are an array."""
    return inputs if isinstance(inputs, LazyRows) else None


def as_array(rows: LazyRows) -> Array:
    """Lazy rows where an array is declared; whatever indexes along the first axis takes either."""
    return cast(Array, rows)
