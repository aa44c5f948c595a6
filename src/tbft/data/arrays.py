"""Arrays from ``.npz`` and ``.npy`` files, checked and fitted to what the model takes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.keys import CLASS_NAMES, find_keys
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.errors import DataError

Array = npt.NDArray[Any]


def read_npz(path: Path, spec: InputSpec) -> Samples:
    """Samples from an ``.npz``: inputs, labels, and any further arrays (n,) as attributes.

    The keys are those that `spec` names, or the usual ones; see :func:`tbft.data.keys.find_keys`.
    """
    arrays = load_npz(path)
    inputs_key, labels_key = find_keys(list(arrays), spec, str(path))
    inputs, labels = arrays.pop(inputs_key), arrays.pop(labels_key)
    own = next((arrays.pop(k) for k in CLASS_NAMES if k in arrays), None)
    names = None if own is None else own.astype(str).reshape(-1).tolist()
    attributes = {k: a for k, a in arrays.items() if a.shape == (len(inputs),)}
    return make_samples(inputs, labels, names, attributes, str(path), spec)


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz``, none of them Python objects."""
    try:
        # The archive is opened first because np.load would take an .npy under this name too.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # a damaged archive can raise almost anything
        raise DataError(f"{path} is damaged, holds Python objects, or is no .npz: {error}") from error


def memory_map(path: Path) -> Array:
    """The array of an ``.npy``, left on disk."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is missing, damaged or no .npy: {error}") from error
    return array


def check_shapes(inputs: Array, labels: Array, name: str) -> None:
    """Raise DataError unless there are samples, and a label for each."""
    if inputs.ndim == 0 or len(inputs) == 0:
        raise DataError(f"{name}: there are no samples in it")
    if labels.shape != (len(inputs),):
        raise DataError(
            f"{name}: {len(inputs)} inputs but labels of shape {labels.shape}; one label a sample"
        )
