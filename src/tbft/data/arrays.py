"""Arrays from ``.npz`` and ``.npy`` files, checked and fitted to what the model takes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tbft.data.samples import Samples, make_samples, match_classes
from tbft.data.spec import InputSpec
from tbft.data.viewing import resize
from tbft.errors import DataError

INPUT_KEYS = ("images", "inputs", "x", "X", "data", "features")
LABEL_KEYS = ("labels", "label", "y", "Y", "targets", "target")
CLASS_KEYS = ("class_names", "classes", "superclasses", "label_names")

Array = npt.NDArray[Any]


def read_npz(path: Path, spec: InputSpec) -> Samples:
    """Samples from an ``.npz``: inputs, labels, and any further arrays (n,) as attributes.

    Keys: inputs under one of ``images inputs x X data``, labels under ``labels label y Y targets``,
    class names, if any, under ``class_names classes superclasses``.
    """
    arrays = load_npz(path)
    inputs_key = _first(arrays, INPUT_KEYS, "inputs", path)
    labels_key = _first(arrays, LABEL_KEYS, "labels", path)
    inputs, labels = arrays.pop(inputs_key), arrays.pop(labels_key)
    own_names = next((arrays.pop(k) for k in CLASS_KEYS if k in arrays), None)
    names = None if own_names is None else own_names.astype(str).reshape(-1).tolist()
    check_shapes(inputs, labels, str(path))
    attributes = {k: a for k, a in arrays.items() if a.shape == (len(inputs),)}
    x = fit_arrays(inputs, spec, str(path))
    samples = make_samples(x, labels, names or spec.class_names, attributes, str(path))
    return match_classes(samples, spec.class_names)


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz``, none of them Python objects."""
    try:
        # The archive is opened first because np.load would take an .npy under this name too.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # a damaged archive can raise almost anything
        raise DataError(f"{path} is damaged, holds Python objects, or is no .npz: {error}") from error


def _first(arrays: Mapping[str, Array], keys: tuple[str, ...], what: str, path: Path) -> str:
    for key in keys:
        if key in arrays:
            return key
    raise DataError(f"{path}: no {what}; name the array one of {', '.join(keys)} (found {', '.join(arrays)})")


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


def fit_arrays(inputs: Array, spec: InputSpec, name: str) -> Array:
    """Check arrays against what the model takes; put pictures in the standard layout and size.

    ``uint8`` pictures become (n, height, width, channels) and are resized where the size differs.
    Floats are pictures in [0, 1] as (n, channels, height, width), or whatever the model takes if
    `spec` names no resolution.
    """
    inputs = _axes_placed(inputs, spec, name)
    if spec.resolution is None:
        return inputs
    if inputs.dtype == np.uint8:
        return _resized(inputs, spec.resolution)
    return _checked_floats(inputs, spec.resolution, name)


def _axes_placed(inputs: Array, spec: InputSpec, name: str) -> Array:
    """Pictures with their channels last (``uint8``) or first (floats); anything else as it is."""
    pictures = inputs.dtype == np.uint8
    if inputs.ndim == 4 and spec.channels is not None:
        return _channels_placed(inputs, spec.channels, last=pictures, name=name)
    if inputs.ndim == 4 and pictures:
        # Nobody says which axis holds the channels: 1 or 3 in front and not behind is a plain sign.
        first = inputs.shape[1] in (1, 3) and inputs.shape[-1] not in (1, 3)
        return inputs.transpose(0, 2, 3, 1) if first else inputs
    if inputs.ndim == 3 and spec.channels in (None, 1) and (pictures or spec.resolution is not None):
        return inputs[..., None] if pictures else inputs[:, None]
    if inputs.ndim != 4 and (pictures or spec.resolution is not None):
        raise DataError(f"{name}: the model takes pictures, one sample here has the shape {inputs.shape[1:]}")
    return inputs


def _channels_placed(inputs: Array, channels: int, last: bool, name: str) -> Array:
    first_fits, last_fits = inputs.shape[1] == channels, inputs.shape[-1] == channels
    if not (first_fits or last_fits):
        raise DataError(f"{name}: the model takes {channels} channels, the pictures are {inputs.shape[1:]}")
    if last:
        return inputs if last_fits else inputs.transpose(0, 2, 3, 1)
    return inputs if first_fits else inputs.transpose(0, 3, 1, 2)


def _resized(pictures: Array, side: int) -> Array:
    if pictures.shape[1:3] == (side, side):
        return pictures
    squeeze = pictures.shape[3] == 1
    out = np.empty((len(pictures), side, side, pictures.shape[3]), np.uint8)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture[..., 0] if squeeze else picture)
        out[i] = np.asarray(resize(image, side)).reshape(out.shape[1:])
    return out


def _checked_floats(inputs: Array, side: int, name: str) -> Array:
    if inputs.shape[2:] != (side, side):
        raise DataError(
            f"{name}: float pictures of {inputs.shape[3]}x{inputs.shape[2]} px, "
            f"the model takes {side}x{side}; resize them, or store them as uint8 to have that done"
        )
    low, high = inputs.min(), inputs.max()
    if np.isfinite([low, high]).all() and (low < 0 or high > 1):  # make_samples tells of the infinite
        raise DataError(
            f"{name}: float pictures have to be in [0, 1], these are in [{low:.4g}, {high:.4g}]; "
            "divide by 255, and leave normalization to the model"
        )
    return inputs
