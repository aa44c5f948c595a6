"""Pictures from a folder or a tar of class folders, through Pillow."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.viewing import Tally, as_viewed, plain_reason, resize
from tbft.errors import DataError, unknown

SUFFIXES = {".jpg", ".jpeg", ".png"}
Pixels = npt.NDArray[np.uint8]


def read_folder(path: Path, spec: InputSpec) -> Samples:
    """Pictures in ``<path>/.../<class>/<file>``; the class is the name of a file's parent folder."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    kept = _kept([p.parent.name for p in files], path, spec)
    pictures = ((files[i].relative_to(path).as_posix(), files[i].read_bytes()) for i in kept)
    samples = replace(_read(pictures, len(kept), path, spec), ids=kept)
    if spec.folders is not None:
        return samples
    empty = [p for p in path.rglob("*") if p.is_dir() and not any(p.iterdir())]
    if empty and spec.class_names is None:
        raise DataError(f"{path}: the folder {empty[0].name} is empty; remove it if it is no class")
    return samples


def read_tar(path: Path, spec: InputSpec) -> Samples:
    """The same from a tar, read in place, without unpacking it."""
    try:
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isfile() and PurePosixPath(m.name).suffix.lower() in SUFFIXES]
            members.sort(key=lambda m: m.name)
            kept = _kept([PurePosixPath(m.name).parent.name for m in members], path, spec)
            pictures = ((members[i].name, _extract(tar, members[i])) for i in kept)
            return replace(_read(pictures, len(kept), path, spec), ids=kept)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is damaged or no tar: {error}") from error


def _kept(folders: list[str], path: Path, spec: InputSpec) -> npt.NDArray[np.int64]:
    """Positions of the pictures to read; as ids they do not depend on which folders are wanted."""
    if spec.folders is None or not folders:
        return np.arange(len(folders))
    kept = np.flatnonzero([folder in spec.folders for folder in folders])
    if len(kept) == 0:
        own, wanted = (", ".join(sorted(names)[:3]) for names in (set(folders), spec.folders))
        raise DataError(
            f"{path}: it has the class folders {own}, ..., and none of those wanted: {wanted}, ..."
        )
    return kept


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # members were filtered by isfile()
    return file.read()


def _read(pictures: Iterator[tuple[str, bytes]], count: int, path: Path, spec: InputSpec) -> Samples:
    if count == 0:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{path}: no pictures ({suffixes}) in it; expected <class>/<file>")
    names: list[str] = []
    folders: list[str] = []
    arrays: list[Pixels] = []
    tally = Tally()
    shapes: dict[tuple[int, ...], str] = {}  # shape -> the first picture that has it
    for name, blob in tqdm(pictures, f"reading {path.name}", count, unit="", leave=False, disable=None):
        folder = PurePosixPath(name).parent.name
        if not folder:
            raise DataError(f"{path}: {name} lies in no class folder; expected <class>/<file>")
        if spec.class_names is not None and folder not in spec.class_names:
            raise DataError(
                f"{path}: the model has no such class: {unknown('class', folder, spec.class_names)}"
            )
        picture = _decode(blob, name, f"{path}: {name}", tally)
        shape = (*picture.size[::-1], len(picture.getbands()))
        shapes.setdefault(shape, name)
        if not spec.mixed and len(shapes) > 1:
            told = ", ".join(f"{first} is {_shown(s)}" for s, first in shapes.items())
            raise DataError(
                f"{path}: pictures of mixed sizes or channels: {told}; "
                "give --mixed to resize, crop and convert them"
            )
        arrays.append(_fit(picture, shape, spec, f"{path}: {name}"))
        names.append(name)
        folders.append(folder)
    if spec.mixed and spec.channels is None and {a.shape[2] for a in arrays} == {1, 3}:
        arrays = [np.repeat(a, 3, axis=2) if a.shape[2] == 1 else a for a in arrays]
    if len(differ := {a.shape for a in arrays}) > 1:
        what = "channels" if len({a.shape[:2] for a in arrays}) == 1 else "sizes"
        shown = ", ".join(_shown(s) for s in sorted(differ)[:3])
        raise DataError(
            f"{path}: pictures of mixed {what} ({shown}), and no model that says what to make them"
        )
    classes = spec.class_names or tuple(sorted(set(folders)))
    position = {c: i for i, c in enumerate(classes)}
    labels = np.array([position[f] for f in folders])
    files = {"file": np.array(names)}
    samples = make_samples(np.stack(arrays), labels, classes, files, str(path))
    return samples.noted(*tally.sentences(str(path)))


def _decode(blob: bytes, name: str, where: str, tally: Tally) -> Image.Image:
    try:
        picture, notes = as_viewed(Image.open(io.BytesIO(blob)))
    except Exception as error:  # a decoder can raise anything
        raise DataError(f"{where} is no readable picture: {plain_reason(error)}") from error
    tally.add(notes, name)
    return picture


def _fit(picture: Image.Image, shape: tuple[int, ...], spec: InputSpec, where: str) -> Pixels:
    if spec.channels is not None and shape[2] != spec.channels:
        if not spec.mixed:
            raise DataError(
                f"{where} has {shape[2]} channels, the model takes {spec.channels}; give --mixed to convert"
            )
        picture = picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[spec.channels])
    if spec.resolution is not None:
        picture = resize(picture, spec.resolution, spec.resize, spec.crop)
    pixels: npt.NDArray[Any] = np.asarray(picture, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
