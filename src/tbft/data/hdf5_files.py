"""Files of HDF5, read through the extra `hdf5`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tbft.data.arrays import Objects, samples_of_arrays
from tbft.data.samples import Samples
from tbft.data.source import Source
from tbft.errors import DataError, needs

#: Compressed data can become so many times as large.
_MAX_RATIO = 1100
SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def read_source(source: Source) -> Samples | None:
    """Samples from arrays by name; that of an array in a group is both names: `x` in `train` is `train_x`.

    What leads to other files (external links and storage, virtual arrays) is not followed.

    Raises:
        DataError: it is damaged, or has no inputs and labels.
        MissingExtraError: the extra `hdf5` is not installed.
    """
    if source.suffix not in SUFFIXES:
        return None
    with needs("h5py", "hdf5"):
        import h5py
    try:
        with h5py.File(source.path, "r") as file:
            arrays = {"_".join(path): _array(dataset, h5py) for path, dataset in _datasets(file, h5py)}
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise almost anything
        raise DataError(f"{source.name} is damaged or no HDF5: {error}") from error
    return samples_of_arrays(arrays, source.spec, source.name)


def _datasets(group: Any, h5py: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every array, and the names that lead to it; links are not followed, so there are no circles."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or len(above) > 8:
            continue
        found = group[name]
        if isinstance(found, h5py.Group):
            yield from _datasets(found, h5py, (*above, name))
        elif isinstance(found, h5py.Dataset) and not found.is_virtual and found.external is None:
            yield (*above, name), found


def _array(dataset: Any, h5py: Any) -> Any:
    """Numbers as they are, text as such, anything else as what stands for it."""
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[()], dtype=str)
    if dataset.dtype.kind not in "biufS":
        return Objects(dataset.shape)
    if dataset.size * dataset.dtype.itemsize > _MAX_RATIO * dataset.id.get_storage_size():
        raise DataError(f"the array {dataset.name} is said to be larger than what the file can hold")
    return np.asarray(dataset[()])
