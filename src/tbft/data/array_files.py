"""Files of arrays: ``.npz``, ``.npy``, ``.pt`` and ``.safetensors``, read without running what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tbft.data.arrays import Array, Objects, refuse_objects, samples_of_arrays
from tbft.data.keys import INPUT_NAMES, LABEL_NAMES, split_part
from tbft.data.members import some
from tbft.data.samples import Samples
from tbft.data.source import Source
from tbft.data.spec import InputSpec
from tbft.errors import DataError

#: Kinds of file that hold one array each.
_SINGLE = ((".npy",), (".pt", ".pth"))


def read_source(source: Source) -> Samples | None:
    """Samples from a file of arrays, or from a folder of them."""
    if arrays := find_array_folder(source.path):
        return read_array_folder(arrays, source.path, source.spec)
    if source.suffix == ".npz":
        return read_npz(source.path, source.spec)
    if source.suffix in (".pt", ".pth", ".safetensors"):
        return read_tensors(source.path, source.spec)
    return None


def read_npz(path: Path, spec: InputSpec) -> Samples:
    """Samples from an ``.npz``: inputs, labels, and any further arrays (n,) as attributes.

    The keys are those that `spec` names, or the usual ones; see :func:`tbft.data.keys.find_parts`.
    """
    return samples_of_arrays(_npz_entries(path), spec, str(path))


def read_tensors(path: Path, spec: InputSpec) -> Samples:
    """The same from a ``.pt``, ``.pth`` or ``.safetensors`` of tensors: a dictionary, or (inputs, labels)."""
    return samples_of_arrays(_tensors(path), spec, str(path))


def find_array_folder(path: Path) -> dict[str, Path]:
    """Name -> file, where `path` is a folder with inputs and labels as ``.npy`` or ``.pt``, or a file in one.

    For a file: that file, and the labels beside it. Empty if there are none of the usual names.
    """
    folder = path if path.is_dir() else path.parent
    for suffixes in _SINGLE:
        if path.is_file() and path.suffix not in suffixes:
            continue
        files = {p.stem: p for p in sorted(folder.glob("*")) if p.suffix in suffixes and p.is_file()}
        if path.is_file():
            part = split_part(path.stem)[0]
            files = {s: file for s, file in files.items() if file == path or _is(s, LABEL_NAMES, part)}
        if any(_is(s, INPUT_NAMES) for s in files) and any(_is(s, LABEL_NAMES) for s in files):
            return files
    return {}


def read_array_folder(files: Mapping[str, Path], path: Path, spec: InputSpec) -> Samples:
    """Samples from the files that :func:`find_array_folder` found; arrays stay on disk where they can."""
    arrays = {
        stem: memory_map(file) if file.suffix == ".npy" else _one_tensor(file) for stem, file in files.items()
    }
    samples = samples_of_arrays(arrays, spec, str(path))
    others = sorted(
        p.name for p in path.glob("*") if path.is_dir() and p not in files.values() and p.name[0] != "."
    )
    return samples.noted(f"beside the arrays, and not read: {some(others)}") if others else samples


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz``, none of them Python objects."""
    entries = _npz_entries(path)
    for key, value in entries.items():
        refuse_objects(value, "array", key, str(path))
    return entries


def memory_map(path: Path) -> Array:
    """The array of an ``.npy``, left on disk."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            refuse_objects(Objects(()), "array", path.stem, str(path))
        raise DataError(f"{path} is missing, damaged, or not an .npy: {error}") from error
    return array


def _npz_entries(path: Path) -> dict[str, Any]:
    """Every entry of an ``.npz``: an array, or a placeholder for one of Python objects."""
    try:
        # The archive is opened first because np.load would take an .npy under this name too.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: _entry(file, key) for key in file.files}
    except Exception as error:  # a damaged archive can raise almost anything
        raise DataError(f"{path} is damaged, or not an .npz: {error}") from error


def _entry(file: Any, key: str) -> Any:
    try:
        return file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        return Objects(())


def _tensors(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged, or not a .safetensors: {error}") from error
    held = _load_torch(path)
    if isinstance(held, Mapping):
        return _flat(held)
    if _are_items(held):
        return dict(zip(("inputs", "labels"), map(list, zip(*held, strict=True)), strict=True))
    if isinstance(held, (tuple, list)) and len(held) == 2 and not any(isinstance(v, tuple) for v in held):
        return dict(zip(("inputs", "labels"), held, strict=True))
    raise DataError(
        f"{path} holds a {type(held).__name__}; save a dictionary: torch.save({{'inputs': x, 'labels': y}}, "
        "path), or of parts {'x_train': x, 'y_train': y, 'x_test': ..., 'y_test': ...}"
    )


def _flat(held: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """Values by name; those of an inner dictionary by both names: `train` with an `x` is `train_x`."""
    found: dict[str, Any] = {}
    for key, value in held.items():
        name = f"{above}{key}"
        found |= _flat(value, f"{name}_") if isinstance(value, Mapping) else {name: value}
    return found


def _are_items(held: Any) -> bool:
    """Whether these are pairs of an input and a label, rather than all inputs and all labels."""
    return (
        isinstance(held, (tuple, list))
        and len(held) > 0
        and all(isinstance(item, (tuple, list)) and len(item) == 2 for item in held)
        and all(isinstance(x, Tensor) and np.ndim(y) == 0 for x, y in held)
    )


def _one_tensor(path: Path) -> Any:
    held = _load_torch(path)
    if isinstance(held, (Tensor, list)):
        return held
    raise DataError(f"{path} holds a {type(held).__name__}, not a tensor; save one tensor a file")


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise DataError(
            f"{path} is damaged, or holds more than tensors and plain values, which are all that is "
            "read from a file of torch; save it again: torch.save({'inputs': x, 'labels': y}, path)"
        ) from error


def _is(stem: str, names: tuple[str, ...], part: str | None = None) -> bool:
    """Whether this is one of the names, of any part or of this one."""
    own, base = split_part(stem)
    return base.lower() in names and (part is None or own == part)
