"""One function reads every kind of set: :func:`read`. :data:`READERS` lists the kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tbft.data import (
    array_files,
    cifar,
    cifar10c,
    factory,
    listed_sources,
    parquet_files,
    pictures,
)
from tbft.data.class_map import ClassMap, apply_class_map
from tbft.data.class_names import check_labels
from tbft.data.conditions import Conditions, Where, as_conditions, single_values
from tbft.data.samples import Samples, match_classes
from tbft.data.source import Reader, Source
from tbft.data.spec import InputSpec, Preprocessing
from tbft.errors import DataError

#: Tried in this order; the first that knows the set reads it.
READERS = (
    Reader("package.module:factory", factory.read_source),
    Reader("a .csv or .tsv of files or numbers with labels", listed_sources.read_table_file, chooses=True),
    Reader("a .json of files with labels, such as COCO's", listed_sources.read_json_file, chooses=True),
    Reader("an .npz, .npy, .pt or .safetensors of inputs and labels", array_files.read_source),
    Reader("a CIFAR-10-C folder", cifar10c.read_source),
    Reader("official CIFAR-10 or CIFAR-100 files", cifar.read_source),
    Reader("a .parquet of pictures or numbers with labels", parquet_files.read_source, chooses=True),
    Reader("pictures or recordings with a table of their labels", listed_sources.read_source, chooses=True),
    Reader("a folder, .tar or .zip of class folders", pictures.read_source, chooses=True),
)
#: HDF5's library hangs on some damaged files, and cannot be interrupted then.
_HDF5 = "with h5py.File(path) as f: numpy.savez('set.npz', x=f['x'][()], y=f['y'][()]) makes an .npz of it"
#: Kinds that are not read -> what to do.
_REMEDIES = {
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".mat": "numpy.savez('set.npz', **scipy.io.loadmat(path)) makes an .npz of it",
    ".pkl": "pickles are not read, as they can run code; save its arrays with numpy.savez",
    ".pickle": "pickles are not read, as they can run code; save its arrays with numpy.savez",
    ".gz": "unpack it, and give the file",
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".mp4": "save its frames as pictures",
    ".tfrecord": "numpy.savez or a folder of pictures can be read",
    ".arrow": "save it as .parquet: dataset.to_parquet('set.parquet')",
    ".feather": "save it as .parquet",
}


def read(
    source: str | Path,
    spec: InputSpec | None = None,
    where: Where | None = None,
    class_map: ClassMap | None = None,
) -> Samples:
    """Read labeled samples.

    Args:
        source: a folder of class folders, or of pictures with a table ``file,label[,...]`` beside them; a
            ``.tar`` or ``.zip`` of one; such a table itself, or one of numbers and labels; COCO's ``.json``;
            an ``.npz``, ``.pt`` or ``.safetensors`` with inputs and labels, or a folder of two
            ``.npy``; a ``.parquet``, or a folder of them; recordings (``.wav``) in place of pictures; a file
            or folder of the official CIFAR-10 or CIFAR-100; a CIFAR-10-C folder or one of its files; or
            ``package.module:factory`` that returns a dataset.
        spec: what the model takes; pictures are fitted to it and labels checked against it.
        where: keep only samples whose attributes have these values: ``{"domain": "target"}``,
            ``{"site": ["a", "b"]}`` for either, or ``["site=a", "day!=3"]`` as the command line takes them.
        class_map: read leaf classes as the superclasses of this map (see ``find_class_map``); only
            the folders that it knows are read.

    Raises:
        DataError: nothing there, or something in it is wrong; the message says what and where.
        MissingExtraError: a package that reads this kind of file is not installed.
    """
    spec = spec or InputSpec()
    conditions = as_conditions(where)
    if not str(source):
        raise DataError(f"no data were named; expected {forms()}")
    if class_map is None:
        samples, left = _read_as_it_is(Source(str(source), spec, conditions))
    else:
        leaves = replace(spec, class_names=None, folders=_folders(class_map, conditions))
        samples, left = _read_as_it_is(Source(str(source), leaves, conditions))
        samples = apply_class_map(samples, class_map)
        samples = match_classes(samples, spec.class_names)
    if spec.class_names is not None:
        check_labels(samples.labels, spec.class_names, samples.name)
    if samples.preprocessing == Preprocessing():  # readers have fitted the sizes
        samples = replace(samples, preprocessing=spec.preprocessing)
    return samples.where(left)


def forms() -> str:
    """Every kind of set that is read, in words."""
    return "; ".join(reader.form for reader in READERS[:0:-1]) + f"; or {READERS[0].form}"


def _folders(class_map: ClassMap, conditions: Conditions) -> frozenset[str]:
    """The class folders of one domain, if only that is wanted; `where` reports an invalid domain."""
    domain = single_values(conditions).get("domain")
    return class_map.folders(domain) or class_map.folders()


def _read_as_it_is(source: Source) -> tuple[Samples, Conditions]:
    """Samples, and the conditions that they are still to meet."""
    readers = READERS if source.path.exists() else READERS[:1]
    for reader in readers:
        samples = reader.read(source)
        if samples is not None:
            met = samples.attributes if reader.chooses else {}
            return samples, {key: c for key, c in source.conditions.items() if key not in met}
    path = source.path
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {forms()}")
    remedy = _REMEDIES.get(source.suffix)
    what = f"{source.suffix} is not read: {remedy}" if remedy else f"unknown kind of data; expected {forms()}"
    raise DataError(f"{path}: {what}")
