"""Download official archives with resuming, check them, and unpack them as folders that ``read`` takes."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tqdm import tqdm

from tbft.data.cifar10c import COMMON
from tbft.errors import DataError, unknown

TIMEOUT_SECONDS = 30.0
#: Pauses before retrying after a broken connection; they start over after an attempt that brought new bytes.
PAUSES_SECONDS = (1.0, 3.0, 10.0, 30.0)
_CHUNK = 1 << 18


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


class _ConnectionLostError(Exception):
    """The connection failed; another attempt may succeed."""


def fetch(name: str, folder: str | Path = ".", url: str | None = None, keep: bool = False) -> Path:
    """Download an archive and unpack it, unless the unpacked folder is already there.

    An interrupted download, also of an earlier run, resumes from the file ``<folder>/<name>.part``. Nothing
    is unpacked unless length and checksum are correct, and the unpacked folder appears under its name only
    when it is complete.

    Args:
        name: ``cifar10`` or ``cifar10-c``.
        folder: where to put the unpacked folder; it has to exist.
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
    if not place.is_dir():
        raise DataError(f"the folder {place} does not exist; make it first")
    try:
        return _fetch(ARCHIVES[name], place, url, keep)
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
        _check_file(str(kept), kept, archive.size, archive.sha256, "remove it and run this again")
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


def download(url: str, part: Path, size: int, sha256: str, label: str = "") -> None:
    """Download to `part`, resuming where it ends, and check length and checksum.

    Raises:
        DataError: no connection, or a file that differs from the one described, which is removed.
    """
    _check_address(url)
    part.touch()
    initial = part.stat().st_size
    with tqdm(
        total=size, initial=initial, desc=label, unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        _download_with_retries(url, part, size, bar)
    try:
        _check_file(url, part, size, sha256, "it was removed; try again, or give a mirror with --url")
    except DataError:
        part.unlink()
        raise


def _download_with_retries(url: str, part: Path, size: int, bar: Any) -> None:
    largest, attempts = part.stat().st_size, 0
    while (have := part.stat().st_size) < size:
        try:
            _download_rest(url, part, have, size, bar)
            failure = f"the connection ended after {part.stat().st_size:,} of {size:,} bytes"
        except _ConnectionLostError as error:
            failure = str(error)
        got = part.stat().st_size
        if got >= size:
            return
        # Compared with the largest size: a server that starts over each time would bring "new" bytes forever.
        attempts = 1 if got > largest else attempts + 1
        largest = max(largest, got)
        if attempts > len(PAUSES_SECONDS):
            _give_up(url, failure, part)
        bar.set_postfix_str(f"{failure}; trying again")
        time.sleep(PAUSES_SECONDS[attempts - 1])
        bar.set_postfix_str("")


def _give_up(url: str, failure: str, part: Path) -> NoReturn:
    raise DataError(
        f"cannot download {url}: {failure}; run it again to resume, give a mirror with --url, "
        f"or download it manually as {part}"
    )


def _download_rest(url: str, part: Path, have: int, size: int, bar: Any) -> None:
    """Append what the server sends from byte `have` on; start over if it sends the whole file."""
    with _open(url, have, part) as response:
        resumed = response.status == 206
        if resumed and _starts_at(response) != have:
            part.write_bytes(b"")  # the next attempt requests the whole file
            raise _ConnectionLostError("the server sends another range than requested")
        _check_announced(url, response, size, part)  # before a correct part is overwritten
        bar.update((have if resumed else 0) - bar.n)
        with part.open("ab" if resumed else "wb") as file:
            while file.tell() <= size and (chunk := _read(response)):
                file.write(chunk)
                bar.update(len(chunk))


def _open(url: str, have: int, part: Path) -> HTTPResponse:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urllib.request.build_opener(_WebOnly).open(request, timeout=TIMEOUT_SECONDS)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.write_bytes(b"")  # the server's file is shorter than our part, so the two differ
        elif error.code < 500 and error.code not in (408, 429):
            _give_up(url, f"the server answers {error.code} {error.reason}", part)
        raise _ConnectionLostError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            _give_up(url, f"its certificate is not trusted ({reason})", part)
        raise _ConnectionLostError(str(reason) or type(reason).__name__) from error


def _read(response: HTTPResponse) -> bytes:
    """Read a chunk; only network failures become :class:`_ConnectionLostError`."""
    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _ConnectionLostError(str(error) or type(error).__name__) from error


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Refuses redirects to other schemes, such as ftp, which urllib would follow."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_address(newurl)
        except DataError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # an invalid port or IPv6 host
        good = False
    if not (good and url.isascii() and url.isprintable() and " " not in url):
        raise DataError(f"{url!r} is not an http:// or https:// address")


def _check_announced(url: str, response: HTTPResponse, size: int, part: Path) -> None:
    """Raise if the server announces a file of another length, as wrong mirrors and sign-in pages do."""
    if response.status == 206:
        length = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    else:
        length = response.headers.get("Content-Length") or ""
    if length.isdecimal() and int(length) != size:
        _give_up(url, f"the server announces {int(length):,} bytes, the published file has {size:,}", part)


def _starts_at(response: HTTPResponse) -> int | None:
    """Position of the first byte of a partial response; a server may send another range than requested."""
    kind, _, rest = (response.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if kind == "bytes" and first.isdecimal() else None


def _check_file(origin: str, path: Path, size: int, sha256: str, remedy: str) -> None:
    got = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if got == size and digest.hexdigest() == sha256:
        return
    what = f"{got:,} bytes" if got != size else f"the SHA-256 {digest.hexdigest()}"
    expected = f"{size:,} bytes" if got != size else sha256
    raise DataError(f"{origin} differs from the published file: it has {what}, expected {expected}; {remedy}")


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
