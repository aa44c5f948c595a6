"""One function reads every kind of set: :func:`read`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tbft.data.archives import is_archive, list_members
from tbft.data.array_files import find_array_folder, read_array_folder, read_npz, read_tensors
from tbft.data.cifar import cifar_members, find_cifar, read_cifar
from tbft.data.cifar10c import find_cifar10c, read_cifar10c
from tbft.data.class_map import ClassMap, apply_class_map
from tbft.data.conditions import Where, as_conditions, single_values
from tbft.data.factory import is_factory, read_factory
from tbft.data.labels import check_labels
from tbft.data.pictures import read_pictures
from tbft.data.samples import Samples, match_classes
from tbft.data.spec import InputSpec, Preprocessing
from tbft.errors import DataError

FORMS = (
    "a folder, .tar or .zip of class folders, an .npz, official CIFAR-10 or CIFAR-100 files, a CIFAR-10-C "
    "folder, or package.module:factory"
)


def read(
    source: str | Path,
    spec: InputSpec | None = None,
    where: Where | None = None,
    class_map: ClassMap | None = None,
) -> Samples:
    """Read labeled samples.

    Args:
        source: a folder of class folders; a ``.tar`` or ``.zip`` of one; an ``.npz`` with inputs and
            labels; a file or folder of the official CIFAR-10 or CIFAR-100; a CIFAR-10-C folder or one of its
            files; or ``package.module:factory`` that returns a dataset.
        spec: what the model takes; pictures are fitted to it and labels checked against it.
        where: keep only samples whose attributes have these values: ``{"domain": "target"}``,
            ``{"site": ["a", "b"]}`` for either, or ``["site=a", "day!=3"]`` as the command line takes them.
        class_map: read leaf classes as the superclasses of this map (see ``find_class_map``); only
            the folders that it knows are read.

    Raises:
        DataError: nothing there, or something in it is wrong; the message says what and where.
    """
    spec = spec or InputSpec()
    conditions = as_conditions(where)
    single = single_values(conditions)
    if not str(source):
        raise DataError(f"no data were named; expected {FORMS}")
    if class_map is None:
        samples = _read_as_it_is(source, spec, single)
    else:
        leaves = replace(spec, class_names=None, folders=_folders(class_map, single.get("domain")))
        samples = apply_class_map(_read_as_it_is(source, leaves, single), class_map)
        samples = match_classes(samples, spec.class_names)
    if spec.class_names is not None:
        check_labels(samples.labels, spec.class_names, samples.name)
    if samples.preprocessing == Preprocessing():  # readers have fitted the sizes
        samples = replace(samples, preprocessing=spec.preprocessing)
    return samples.where(conditions)


def _folders(class_map: ClassMap, domain: str | None) -> frozenset[str]:
    """Of one domain, if that is all that is wanted and there is one; a wrong wish is told by `where`."""
    return class_map.folders(domain) or class_map.folders()


def _read_as_it_is(source: str | Path, spec: InputSpec, where: Mapping[str, str]) -> Samples:
    path = Path(source)
    if not path.exists() and is_factory(str(source)):
        return read_factory(str(source), spec)
    return _read_path(path, spec, where)


def _read_path(path: Path, spec: InputSpec, where: Mapping[str, str]) -> Samples:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {FORMS}")
    if arrays := find_array_folder(path):
        return read_array_folder(arrays, path, spec)
    if find_cifar10c(path):
        return read_cifar10c(path, spec, where)
    if batches := find_cifar(path):
        return read_cifar(batches, str(path), spec)
    if path.is_dir() or is_archive(path):
        listing = list_members(path)
        if batches := cifar_members(listing.others):
            return read_cifar(batches, listing.name, spec)
        return read_pictures(listing, path, spec, where)
    if path.suffix == ".npz":
        return read_npz(path, spec)
    if path.suffix in (".pt", ".pth", ".safetensors"):
        return read_tensors(path, spec)
    raise DataError(f"{path}: unknown kind of data; expected {FORMS}")


def used_classes(samples: Samples) -> int:
    """How many classes have at least one sample."""
    return len(np.unique(samples.labels))
