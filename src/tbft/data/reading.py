"""One function reads every kind of set: :func:`read`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tbft.data.archives import is_archive, list_members
from tbft.data.array_files import find_array_folder, read_array_folder, read_npz, read_tensors
from tbft.data.cifar import cifar_members, find_cifar, read_cifar
from tbft.data.cifar10c import find_cifar10c, read_cifar10c
from tbft.data.class_map import ClassMap, apply_class_map
from tbft.data.conditions import Conditions, Where, as_conditions, single_values
from tbft.data.factory import is_factory, read_factory
from tbft.data.feature_tables import read_features
from tbft.data.labels import check_labels
from tbft.data.listed import find_table
from tbft.data.listed_pictures import listed_in, read_listed
from tbft.data.members import Listing
from tbft.data.pictures import read_pictures
from tbft.data.samples import Samples, match_classes
from tbft.data.shards import shard_table
from tbft.data.spec import InputSpec, Preprocessing
from tbft.data.tables import SUFFIXES, parse_table
from tbft.errors import DataError

FORMS = (
    "a folder, .tar or .zip of class folders, or of pictures with a table of their labels; a .csv or .tsv "
    "of files or numbers with labels; an .npz, .npy, .pt or .safetensors of inputs and labels; official "
    "CIFAR-10 or CIFAR-100 files; a CIFAR-10-C folder; or package.module:factory"
)


def read(
    source: str | Path,
    spec: InputSpec | None = None,
    where: Where | None = None,
    class_map: ClassMap | None = None,
) -> Samples:
    """Read labeled samples.

    Args:
        source: a folder of class folders, or of pictures with a table ``file,label[,...]`` beside them; a
            ``.tar`` or ``.zip`` of one; such a table itself, or one of numbers and labels; an ``.npz``,
            ``.pt`` or ``.safetensors`` with inputs and labels, or a folder of two ``.npy``; a file or
            folder of the official CIFAR-10 or CIFAR-100; a CIFAR-10-C folder or one of its files; or
            ``package.module:factory`` that returns a dataset.
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
    if not str(source):
        raise DataError(f"no data were named; expected {FORMS}")
    if class_map is None:
        samples, left = _read_as_it_is(source, spec, conditions)
    else:
        leaves = replace(spec, class_names=None, folders=_folders(class_map, conditions))
        samples, left = _read_as_it_is(source, leaves, conditions)
        samples = apply_class_map(samples, class_map)
        samples = match_classes(samples, spec.class_names)
    if spec.class_names is not None:
        check_labels(samples.labels, spec.class_names, samples.name)
    if samples.preprocessing == Preprocessing():  # readers have fitted the sizes
        samples = replace(samples, preprocessing=spec.preprocessing)
    return samples.where(left)


def _folders(class_map: ClassMap, conditions: Conditions) -> frozenset[str]:
    """Of one domain, if that is all that is wanted and there is one; a wrong wish is told by `where`."""
    domain = single_values(conditions).get("domain")
    return class_map.folders(domain) or class_map.folders()


def _read_as_it_is(source: str | Path, spec: InputSpec, conditions: Conditions) -> tuple[Samples, Conditions]:
    """Samples, and the conditions that they are still to meet; pictures have been chosen by the others."""
    path = Path(source)
    if not path.exists() and is_factory(str(source)):
        return read_factory(str(source), spec), conditions
    listing = _listed(path)
    if listing is None and not (path.suffix.lower() in SUFFIXES and path.is_file()):
        return _read_file(path, spec, conditions), conditions
    if listing is None:
        samples = _read_table(path, spec, conditions)
    elif batches := cifar_members(listing.others):
        return read_cifar(batches, listing.name, spec), conditions
    elif listed := find_table(listing, spec) or shard_table(listing, spec):
        samples = read_listed(listed, listing, str(path), spec, conditions)
    else:
        samples = read_pictures(listing, path, spec, conditions)
    return samples, {key: c for key, c in conditions.items() if key not in samples.attributes}


def _listed(path: Path) -> Listing | None:
    """The files of a folder or an archive, unless it is one of arrays."""
    if is_archive(path) and path.is_file():
        return list_members(path)
    arrays = path.is_dir() and (find_array_folder(path) or find_cifar10c(path) or find_cifar(path))
    return list_members(path) if path.is_dir() and not arrays else None


def _read_file(path: Path, spec: InputSpec, conditions: Conditions) -> Samples:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {FORMS}")
    if arrays := find_array_folder(path):
        return read_array_folder(arrays, path, spec)
    if find_cifar10c(path):
        return read_cifar10c(path, spec, single_values(conditions))
    if batches := find_cifar(path):
        return read_cifar(batches, str(path), spec)
    if path.suffix.lower() == ".npz":
        return read_npz(path, spec)
    if path.suffix.lower() in (".pt", ".pth", ".safetensors"):
        return read_tensors(path, spec)
    raise DataError(f"{path}: unknown kind of data; expected {FORMS}")


def _read_table(path: Path, spec: InputSpec, conditions: Conditions) -> Samples:
    """A table of files and labels, or of numbers."""
    try:
        table = parse_table(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    found = listed_in(table, path)
    if found is not None:
        return read_listed(*found, str(path), spec, conditions)
    samples = read_features(table, spec)
    return samples.where({key: c for key, c in conditions.items() if key in samples.attributes})


def used_classes(samples: Samples) -> int:
    """How many classes have at least one sample."""
    return len(np.unique(samples.labels))
