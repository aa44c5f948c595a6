"""Official archives: downloaded with resuming, checked, and unpacked as folders that ``read`` takes."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from tbft.errors import DataError, unknown

TIMEOUT_SECONDS = 30.0
#: Pauses before the next try after a broken connection; a try that brings new bytes starts them afresh.
PAUSES_SECONDS = (1.0, 3.0, 10.0, 30.0)
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Archive:
    """An archive that its owners publish.

    Attributes:
        size: in bytes.
        sha256: of the whole file, in hexadecimal digits.
        folder: the one folder that it unpacks to.
        source: whose it is, and where size and checksum are listed.
    """

    name: str
    url: str
    size: int
    sha256: str
    folder: str
    source: str


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            name="cifar10",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            size=170_052_171,
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            folder="cifar-10-batches-bin",
            source="Krizhevsky 2009; checksum as in TensorFlow Datasets",
        ),
        Archive(
            name="cifar10-c",
            url="https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1",
            size=2_918_471_680,
            sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
            folder="CIFAR-10-C",
            source="Hendrycks & Dietterich 2019, CC BY 4.0; checksum as in TensorFlow Datasets",
        ),
    )
}


def fetch(name: str, folder: str | Path = ".", url: str | None = None) -> Path:
    """Download an archive and unpack it; what is there already is not fetched again.

    A download that broke off, also in an earlier run, goes on where it stopped, from the file
    ``<folder>/<name>.part``. Nothing is unpacked unless length and checksum are right, and the
    unpacked folder appears under its name only when it is whole.

    Args:
        name: ``cifar10`` or ``cifar10-c``.
        folder: where to put the unpacked folder; has to exist.
        url: of a mirror; length and checksum have to be the same.

    Returns:
        the unpacked folder.

    Raises:
        DataError: an unknown name, no connection, too little space, or another file than the published one.
    """
    if name not in ARCHIVES:
        raise DataError(unknown("archive", name, ARCHIVES))
    archive, place = ARCHIVES[name], Path(folder)
    if not place.is_dir():
        raise DataError(f"the folder {place} does not exist; make it first")
    done = place / archive.folder
    if done.exists():
        return done
    part = place / f"{name}.part"
    _check_space(place, 3 * archive.size - (part.stat().st_size if part.exists() else 0))
    download(url or archive.url, part, archive.size, archive.sha256, name)
    _unpack(part, archive.folder, place)
    part.unlink()
    return done


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{place} has {free / 1e9:.1f} GB free; downloading and unpacking takes {needed / 1e9:.1f} GB"
        )


def download(url: str, part: Path, size: int, sha256: str, label: str = "") -> None:
    """Download to `part`, going on where it stops, and check length and checksum.

    Raises:
        DataError: no connection, or another file than the one described; a wrong file is removed.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url!r} is no http:// or https:// address")
    tries = 0
    part.touch()
    with tqdm(
        total=size,
        initial=part.stat().st_size,
        desc=label,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
    ) as bar:
        while (have := part.stat().st_size) < size:
            try:
                _go_on(url, part, have, size, bar)
            except (OSError, HTTPException) as error:
                _check_permanent(url, error)
                failure = str(error) or type(error).__name__
            else:
                failure = f"the connection ended after {part.stat().st_size:,} of {size:,} bytes"
            got = part.stat().st_size
            if got >= size:
                break
            tries = 1 if got > have else tries + 1
            if tries > len(PAUSES_SECONDS):
                raise DataError(
                    f"cannot download {url}: {failure}; run it again to go on, or give a mirror with --url"
                )
            time.sleep(PAUSES_SECONDS[tries - 1])
    _check_file(url, part, size, sha256)


def _go_on(url: str, part: Path, have: int, size: int, bar: Any) -> None:
    """Append what the server sends from byte `have` on; start anew if it sends all."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        resumed = have > 0 and response.status == 206 and _starts_at(response) == have
        if not resumed:
            bar.update(-have)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > size:
                    return


def _starts_at(response: HTTPResponse) -> int | None:
    """The first byte of a partial answer; a server may send another range than it was asked for."""
    kind, _, rest = (response.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if kind == "bytes" and first.isdecimal() else None


def _check_permanent(url: str, error: Exception) -> None:
    """Raise what no second try can mend."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code == 416 or error.code >= 500 or error.code in (408, 429):
            return
        raise DataError(f"cannot download {url}: the server answers {error.code} {error.reason}") from error
    if not isinstance(error, (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException)):
        raise error


def _check_file(url: str, part: Path, size: int, sha256: str) -> None:
    got = part.stat().st_size
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if got == size and digest.hexdigest() == sha256:
        return
    part.unlink()
    what = f"{got:,} bytes" if got != size else f"the SHA-256 {digest.hexdigest()}"
    expected = f"{size:,} bytes" if got != size else sha256
    raise DataError(
        f"{url} gives another file than the published one: it has {what}, expected {expected}; "
        "it was removed. Try again, or give a mirror with --url"
    )


def _unpack(archive: Path, folder: str, place: Path) -> None:
    """The archive's one folder, unpacked beside its place and then renamed."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder}.", suffix=".part", dir=place))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] == (folder,)
                if not inside or not (member.isfile() or member.isdir()):
                    raise DataError(
                        f"{archive}: {member.name!r} is no plain file in {folder}/; nothing was unpacked"
                    )
                if member.isfile():
                    target = temporary / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
        if not (temporary / folder).is_dir():
            raise DataError(f"{archive}: there is no folder {folder} in it")
        (temporary / folder).rename(place / folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
