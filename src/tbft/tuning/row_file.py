"""Arrays on disk whose rows are read on demand."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tbft.data.array_files import memory_map
from tbft.data.arrays import Array
from tbft.errors import PlanError, TbftWarning
from tbft.files import allocate, atomic_path
from tbft.tuning.checksummed import TRAILER_BYTES, ChecksumWriter, is_whole

#: Maximum size of the header of an ``.npy`` file of version 1.
_HEADER_BYTES = 256


class RowFile:
    """An array on disk whose rows are read on demand.

    A memory map would do the same, but its touched pages count as the process's own memory, and a file that
    is truncated meanwhile would crash the process.

    Args:
        path: an ``.npy`` file.
    """

    def __init__(self, path: Path) -> None:
        mapped = memory_map(path)
        assert isinstance(mapped, np.memmap)
        self.path, self.shape, self.dtype, self.ndim = path, mapped.shape, mapped.dtype, mapped.ndim
        self._offset = mapped.offset
        self._row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, at: Any) -> Array:
        rows = np.arange(len(self))[at].reshape(-1)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        flat = out.reshape(len(rows), -1).view(np.uint8)
        for i, row in enumerate(rows):
            self._file.seek(self._offset + int(row) * self._row_bytes)
            self._fill(flat[i].data)
        return out

    def _fill(self, row: memoryview) -> None:
        done = 0
        while done < len(row):
            count = self._file.readinto(row[done:])
            if not count:
                raise PlanError(f"{self.path} was truncated while in use: run the command again")
            done += count

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def find_rows(path: Path, shape: tuple[int, ...]) -> RowFile | None:
    """A file written by :func:`write_rows`, or None; a damaged file is removed with a warning."""
    if not path.exists():
        return None
    try:
        rows = RowFile(path) if is_whole(path, path.name) else None
    except Exception:  # a damaged file can raise almost anything
        rows = None
    if rows is not None and rows.shape == shape and rows.dtype == np.float16:
        return rows
    warnings.warn(f"{path} is damaged: it is written again", TbftWarning, stacklevel=2)
    path.unlink()
    return None


def write_rows(path: Path, shape: tuple[int, ...], parts: Iterable[Array]) -> None:
    """Write ``float16`` rows part by part to a file that only its owner can read, with a checksum.

    Raises:
        WriteError: no space, no permission.
    """
    with atomic_path(path, private=True, durable=False) as temporary:
        allocate(temporary, _HEADER_BYTES + 2 * int(np.prod(shape)) + TRAILER_BYTES)
        with temporary.open("r+b") as file:
            writer = ChecksumWriter(file, path.name)
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(writer, header)
            for part in parts:
                writer.write(np.ascontiguousarray(part, "<f2").tobytes())
            writer.finish()
            file.truncate()
