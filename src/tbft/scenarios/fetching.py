"""Official archives: download and check them, and unpack them as folders that ``read`` takes."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tbft.data.cifar10c import COMMON
from tbft.errors import DataError, WriteError, unknown
from tbft.files import claimed
from tbft.scenarios.downloading import check_file, download


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        size: size in bytes.
        sha256: checksum of the file, in hexadecimal digits.
        folder: the one folder that it unpacks to.
        files: the data files in it, by which a complete folder is recognized.
        unpacked: total size of the data files in bytes, rounded up.
        source: who publishes it, and where size and checksum are listed.
    """

    name: str
    url: str
    size: int
    sha256: str
    folder: str
    files: tuple[str, ...]
    unpacked: int
    source: str

    @property
    def file(self) -> str:
        """The archive's file name."""
        return PurePosixPath(urlsplit(self.url).path).name


_FURTHER = ("gaussian_blur", "saturate", "spatter", "speckle_noise")

ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            name="cifar10",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            size=170_052_171,
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            folder="cifar-10-batches-bin",
            files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
            unpacked=185_000_000,
            source="Krizhevsky 2009; checksum as in TensorFlow Datasets",
        ),
        Archive(
            name="cifar10-c",
            url="https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1",
            size=2_918_471_680,
            sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
            folder="CIFAR-10-C",
            files=(*(f"{name}.npy" for name in (*COMMON, *_FURTHER)), "labels.npy"),
            unpacked=2_919_000_000,
            source="Hendrycks & Dietterich 2019, CC BY 4.0; checksum as in TensorFlow Datasets",
        ),
    )
}


def fetch(name: str, folder: str | Path = ".", url: str | None = None, keep: bool = False) -> Path:
    """Download an archive and unpack it, unless the unpacked folder is already there.

    An interrupted download, also of an earlier run, resumes from the file ``<folder>/<name>.part``. Nothing
    is unpacked unless length and checksum are correct, and the unpacked folder appears under its name only
    when it is complete.

    Args:
        name: ``cifar10`` or ``cifar10-c``.
        folder: where to put the unpacked folder; it is made if it does not exist.
        url: URL of a mirror; length and checksum have to be the same.
        keep: keep the archive next to the unpacked folder. If the archive is already there, it is unpacked
            instead of downloaded.

    Returns:
        the unpacked folder.

    Raises:
        DataError: an unknown name, no connection, too little space, a file that differs from the published
            one, or another folder with its name.
    """
    place = Path(folder)
    if is_fetched(name, place):
        return place / ARCHIVES[name].folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        with claimed(place / f"{name}.part"):
            return _fetch(ARCHIVES[name], place, url, keep)
    except WriteError:
        raise
    except OSError as error:
        raise DataError(f"cannot write in {place}: {error.strerror or error}") from error


def is_fetched(name: str, folder: str | Path = ".") -> bool:
    """Whether the unpacked archive is there.

    Raises:
        DataError: an unknown name, or another folder with its name.
    """
    if name not in ARCHIVES:
        raise DataError(unknown("archive", name, ARCHIVES))
    archive = ARCHIVES[name]
    done = Path(folder) / archive.folder
    if not done.exists():
        return False
    missing = [file for file in archive.files if not (done / file).is_file()]
    # `tbft data corrupt` writes folders with this structure, and people give them this name.
    extra = sorted(p.name for p in done.glob("*.np[yz]") if p.name not in archive.files)
    if not (missing or extra):
        return True
    what = f"lacks {missing[0]}" if missing else f"also contains {extra[0]}"
    raise DataError(f"{done} is not the published set: it {what}; move it away, or give another folder")


def _fetch(archive: Archive, place: Path, url: str | None, keep: bool) -> Path:
    kept, part = place / archive.file, place / f"{archive.name}.part"
    there = kept.is_file()
    have = archive.size if there else part.stat().st_size if part.exists() else 0
    _check_space(place, archive.size + archive.unpacked - have)
    if there:
        check_file(str(kept), kept, archive.size, archive.sha256, "remove it and run this again")
    else:
        download(url or archive.url, part, archive.size, archive.sha256, archive.name)
    _unpack(kept if there else part, archive, place)
    if keep and not there:
        part.rename(kept)
    part.unlink(missing_ok=True)
    return place / archive.folder


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{place} has {free / 1e9:.1f} GB free; this download takes {needed / 1e9:.1f} GB more"
        )


def _unpack(packed: Path, archive: Archive, place: Path) -> None:
    """Unpack the archive's one folder under a temporary name, and rename it."""
    folder = archive.folder
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder}.", suffix=".part", dir=place))
    try:
        with tarfile.open(packed) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] == (folder,)
                if not inside or not (member.isfile() or member.isdir()):
                    raise DataError(
                        f"{packed}: {member.name!r} is not a plain file in {folder}/; nothing was unpacked"
                    )
                if member.isfile():
                    target = temporary / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = tar.extractfile(member)
                    assert content is not None  # because it is a file
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
        for name in archive.files:
            if not (temporary / folder / name).is_file():
                raise DataError(f"{packed} does not contain {folder}/{name}")
        (temporary / folder).rename(place / folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{packed} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
