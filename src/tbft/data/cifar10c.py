"""CIFAR-10-C folders: ``<corruption>.npy`` and ``labels.npy``, as published or as tbft writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.data.array_files import load_npz, memory_map
from tbft.data.arrays import Array
from tbft.data.conditions import single_values
from tbft.data.samples import Samples, make_samples
from tbft.data.source import Source
from tbft.data.spec import InputSpec
from tbft.errors import DataError, unknown

#: Beside the ``.npy`` files of a folder that tbft wrote: class names, severities and attributes.
ABOUT = "about.npz"
#: Before an attribute's name in it.
ATTRIBUTE = "attribute."

SEVERITIES = (1, 2, 3, 4, 5)

#: The fifteen common corruptions, in the order in which RobustBench lists them.
COMMON = (
    "shot_noise", "motion_blur", "snow", "pixelate", "gaussian_noise", "defocus_blur", "brightness", "fog",
    "zoom_blur", "frost", "glass_blur", "impulse_noise", "contrast", "jpeg_compression", "elastic_transform",
)  # fmt: skip
#: Others that are weather as well, or not corruptions at all.
NATURAL = frozenset({"snow", "fog", "frost", "rain", "brightness", "original", "clean", "none", "identity"})
_PUBLISHED_ROWS = 50_000


def is_corruption(name: str) -> bool:
    """Whether a file or folder has the name of a published corruption.

    >>> is_corruption("defocus_blur"), is_corruption("images")
    (True, False)
    """
    name = name.lower()
    return name in {*COMMON, *NATURAL, "spatter", "saturate"} or name.endswith(("_noise", "_blur"))


def read_source(source: Source) -> Samples | None:
    """Samples of a CIFAR-10-C folder, or of one of its files."""
    if not find_cifar10c(source.path):
        return None
    return read_cifar10c(source.path, source.spec, single_values(source.conditions))


def find_cifar10c(path: Path) -> bool:
    """Whether this is a CIFAR-10-C folder, or one of its files."""
    return (path.is_dir() and (path / "labels.npy").exists()) or path.suffix == ".npy"


def read_cifar10c(path: Path, spec: InputSpec, where: Mapping[str, str]) -> Samples:
    """One corruption of a CIFAR-10-C folder, memory-mapped.

    The published files hold the five severities one after the other. `path` is the folder, with
    ``corruption`` in `where`, or one file in it; ``severity`` in `where` takes one fifth of it. Arrays that
    are named otherwise and that tbft did not write have neither corruption nor severity.
    """
    folder = path if path.is_dir() else path.parent
    name = _chosen(folder, where.get("corruption") if path.is_dir() else path.stem)
    if not (folder / "labels.npy").exists():
        raise DataError(f"{path}: there are no labels beside it; save them as y.npy or labels.npy")
    about = read_about(folder)
    pictures = memory_map(folder / f"{name}.npy")
    labels = np.array(memory_map(folder / "labels.npy"))
    own_names = about["class_names"].astype(str).tolist() if "class_names" in about else None
    attributes = {k.removeprefix(ATTRIBUTE): a for k, a in about.items() if k.startswith(ATTRIBUTE)}
    if about or is_corruption(name):
        attributes["corruption"] = np.full(len(labels), name)
    samples = make_samples(pictures, labels, own_names, attributes, f"{folder}/{name}", spec)
    # A folder that tbft wrote says what it holds; a published one shows it by repeating its labels.
    severities = about["severities"].tolist() if "severities" in about else []
    if not about and is_corruption(name) and _is_published(samples.labels):
        severities = SEVERITIES
    return _with_severities(samples, severities, where.get("severity"))


def _chosen(folder: Path, name: str | None) -> str:
    names = sorted(p.stem for p in folder.glob("*.npy") if p.stem != "labels")
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        remedy = f"choose one with --where corruption=NAME: {', '.join(names) or 'there is none'}"
        raise DataError(f"{folder}: {unknown('corruption', name, names) if name else remedy}")
    return name


def read_about(folder: Path) -> dict[str, Array]:
    """What tbft wrote beside the arrays; nothing in a published folder."""
    return load_npz(folder / ABOUT) if (folder / ABOUT).exists() else {}


def _is_published(labels: npt.NDArray[np.int64]) -> bool:
    """Whether labels repeat as those of five severities do. A mere cycle from 0 to 9 proves nothing."""
    fifth, rest = divmod(len(labels), len(SEVERITIES))
    if rest or not fifth or not (labels.reshape(len(SEVERITIES), -1) == labels[:fifth]).all():
        return False
    periods = (p for p in range(1, fifth // 2 + 1) if fifth % p == 0)
    return len(labels) == _PUBLISHED_ROWS or not any(
        (labels[:fifth].reshape(-1, p) == labels[:p]).all() for p in periods
    )


def _with_severities(samples: Samples, severities: Sequence[int], wanted: str | None) -> Samples:
    """Say which samples have which severity, where the same pictures are repeated at several; or take one."""
    times = len(severities)
    if times < 1 or len(samples) % times:
        return samples
    count = len(samples) // times
    if not (samples.labels.reshape(times, count) == samples.labels[:count]).all():
        return samples
    attributes: dict[str, Any] = {**samples.attributes, "severity": np.repeat(np.array(severities), count)}
    if times > 1:
        attributes["picture"] = np.tile(np.arange(count), times)  # one picture must not lie in two parts
    samples = replace(samples, attributes=attributes)
    if wanted not in {str(s) for s in severities}:
        return samples
    # A slice keeps the memory map; picking rows by index would read them all.
    start = list(severities).index(int(wanted)) * count
    return samples.subset(slice(start, start + count))


def load_cifar10c(
    n_examples: int,
    severity: int = 5,
    data_dir: str | Path = "./data",
    shuffle: bool = False,
    corruptions: Sequence[str] = COMMON,
) -> tuple[Tensor, Tensor]:
    """CIFAR-10-C as tensors, with the arguments, ranges and order of RobustBench's function of this name.

    Each corruption gives its first ``ceil(n_examples / len(corruptions))`` pictures, one corruption
    after the other; the first `n_examples` of them are returned.

    Args:
        data_dir: the folder that holds ``CIFAR-10-C``, or that folder itself; nothing is downloaded
            (see ``tbft data fetch cifar10-c``).
        shuffle: by NumPy's global generator, as there: call ``np.random.seed`` before.

    Returns:
        x ``float32`` (n, 3, 32, 32) in [0, 1]; y ``int64`` (n,).

    Raises:
        DataError: a file or a severity that is not there.
    """
    if severity not in SEVERITIES:
        raise DataError(f"severity has to be a whole number from 1 to 5, not {severity!r}")
    if not corruptions or n_examples < 1:
        raise DataError("ask for at least one example of at least one corruption")
    folder = _published_folder(Path(data_dir))
    each = -(-n_examples // len(corruptions))
    parts = [_first(folder, name, severity, each) for name in corruptions]
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if shuffle:
        order = np.random.permutation(np.arange(len(inputs)))
        inputs, labels = inputs[order], labels[order]
    x = np.transpose(inputs, (0, 3, 1, 2)).astype(np.float32) / 255
    return torch.tensor(x)[:n_examples], torch.tensor(labels)[:n_examples]


def _published_folder(data_dir: Path) -> Path:
    for folder in (data_dir / "CIFAR-10-C", data_dir):
        if (folder / "labels.npy").is_file():
            return folder
    raise DataError(
        f"{data_dir} holds no CIFAR-10-C folder; get it with: tbft data fetch cifar10-c --out DIR"
    )


def _first(folder: Path, name: str, severity: int, count: int) -> tuple[Array, Array]:
    samples = read_cifar10c(folder, InputSpec(), {"corruption": name, "severity": str(severity)})
    severities = samples.attributes.get("severity")
    if severities is None or set(severities.tolist()) != {severity}:
        raise DataError(f"{folder}/{name}.npy holds no pictures of severity {severity}")
    return np.asarray(samples.inputs[:count]), samples.labels[:count]
