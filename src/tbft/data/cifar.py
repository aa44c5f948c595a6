"""The official CIFAR-10 files: binary (``*.bin``) and Python batches, the latter without trusting them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.errors import DataError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
_ROW = 1 + 3 * 32 * 32

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def find_cifar10(path: Path) -> list[Path]:
    """The batch files that `path` names: one file, or those of a folder (test and training)."""
    if path.is_dir():
        stems = [*_TRAIN, "test_batch"]
        return [p for s in stems for p in (path / s, path / f"{s}.bin") if p.is_file()]
    return [path] if path.is_file() and path.name.partition(".")[0] in [*_TRAIN, "test_batch"] else []


def read_cifar10(path: Path, spec: InputSpec) -> Samples:
    """CIFAR-10 as published; the attribute ``part`` tells ``train`` from ``test`` samples."""
    files = find_cifar10(path)
    batches = [_read_binary(f) if f.suffix == ".bin" else _read_python(f) for f in files]
    pixels = np.concatenate([b[0] for b in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([b[1] for b in batches])
    parts = np.repeat(
        ["test" if f.name.startswith("test") else "train" for f in files], [len(b[1]) for b in batches]
    )
    pictures = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    names = spec.class_names or CIFAR10_CLASSES
    return make_samples(pictures, labels, names, {"part": parts}, str(path), spec)


def _read_binary(path: Path) -> tuple[Pixels, Labels]:
    """Rows of one label byte and 3,072 pixels: all red, all green, all blue."""
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % _ROW:
        raise DataError(f"{path}: {raw.size} bytes are no whole number of rows of {_ROW}; it is cut off")
    rows = raw.reshape(-1, _ROW)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


class _BatchUnpickler(pickle.Unpickler):
    """Admits what a CIFAR batch holds, plain containers and NumPy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.zeros(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return _latin1_bytes
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which no CIFAR batch holds")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes at pickle protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it wants the codec {encoding!r}, which no CIFAR batch holds")
    return text.encode("latin1")


def _read_python(path: Path) -> tuple[Pixels, Labels]:
    try:
        with path.open("rb") as file:
            raw = _BatchUnpickler(file, encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in raw.items()}
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"], dtype=np.int64)
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path} is refused as a CIFAR-10 batch: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _ROW - 1):
        raise DataError(f"{path}: pixels of {pixels.dtype} {pixels.shape}, expected uint8 (n, {_ROW - 1})")
    return pixels, labels
