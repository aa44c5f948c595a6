"""Official archives: downloaded with resuming, checked, and unpacked as folders that ``read`` takes."""

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
        files: the data in it, by which the folder is known to be whole.
        unpacked: bytes that they take, rounded up.
        source: whose it is, and where size and checksum are listed.
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
        """The archive's own name."""
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


class _BrokenOffError(Exception):
    """The connection failed; a second try may not."""


def fetch(name: str, folder: str | Path = ".", url: str | None = None, keep: bool = False) -> Path:
    """Download an archive and unpack it; what is there already is not fetched again.

    A download that broke off, also in an earlier run, goes on where it stopped, from the file
    ``<folder>/<name>.part``. Nothing is unpacked unless length and checksum are right, and the
    unpacked folder appears under its name only when it is whole.

    Args:
        name: ``cifar10`` or ``cifar10-c``.
        folder: where to put the unpacked folder; has to exist.
        url: of a mirror; length and checksum have to be the same.
        keep: keep the archive beside the folder. An archive that lies there, kept or downloaded by
            hand, is unpacked in place of a download.

    Returns:
        the unpacked folder.

    Raises:
        DataError: an unknown name, no connection, too little space, another file than the published
            one, or another folder under its name.
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
    """Is the unpacked archive there?

    Raises:
        DataError: an unknown name, or something else lies in its place.
    """
    if name not in ARCHIVES:
        raise DataError(unknown("archive", name, ARCHIVES))
    archive = ARCHIVES[name]
    done = Path(folder) / archive.folder
    if not done.exists():
        return False
    lacking = [file for file in archive.files if not (done / file).is_file()]
    # `tbft data corrupt` writes folders of this shape, and people give them this name.
    more = sorted(p.name for p in done.glob("*.np[yz]") if p.name not in archive.files)
    if not (lacking or more):
        return True
    what = f"lacks {lacking[0]}" if lacking else f"also holds {more[0]}"
    raise DataError(f"{done} is not the published set, it {what}; move it away, or give another folder")


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
    """Download to `part`, going on where it stops, and check length and checksum.

    Raises:
        DataError: no connection, or another file than the one described; a wrong file is removed.
    """
    _check_address(url)
    part.touch()
    initial = part.stat().st_size
    with tqdm(
        total=size, initial=initial, desc=label, unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        _go_on_until_whole(url, part, size, bar)
    try:
        _check_file(url, part, size, sha256, "it was removed; try again, or give a mirror with --url")
    except DataError:
        part.unlink()
        raise


def _go_on_until_whole(url: str, part: Path, size: int, bar: Any) -> None:
    furthest, tries = part.stat().st_size, 0
    while (have := part.stat().st_size) < size:
        try:
            _go_on(url, part, have, size, bar)
            failure = f"the connection ended after {part.stat().st_size:,} of {size:,} bytes"
        except _BrokenOffError as error:
            failure = str(error)
        got = part.stat().st_size
        if got >= size:
            return
        # Against the furthest: a server that starts anew each time would bring "new" bytes for ever.
        tries = 1 if got > furthest else tries + 1
        furthest = max(furthest, got)
        if tries > len(PAUSES_SECONDS):
            _give_up(url, failure, part)
        bar.set_postfix_str(f"{failure}; trying again")
        time.sleep(PAUSES_SECONDS[tries - 1])
        bar.set_postfix_str("")


def _give_up(url: str, failure: str, part: Path) -> NoReturn:
    raise DataError(
        f"cannot download {url}: {failure}; run it again to go on, give a mirror with --url, "
        f"or download it by hand as {part}"
    )


def _go_on(url: str, part: Path, have: int, size: int, bar: Any) -> None:
    """Append what the server sends from byte `have` on; start anew if it sends all."""
    with _open(url, have, part) as response:
        resumed = response.status == 206
        if resumed and _starts_at(response) != have:
            part.write_bytes(b"")  # the next try asks for all
            raise _BrokenOffError("the server sends another range than it was asked for")
        _check_announced(url, response, size, part)  # before a good part is overwritten
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
            part.write_bytes(b"")  # the server's file ends before our part: one of them is another file
        elif error.code < 500 and error.code not in (408, 429):
            _give_up(url, f"the server answers {error.code} {error.reason}", part)
        raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            _give_up(url, f"its certificate is not trusted ({reason})", part)
        raise _BrokenOffError(str(reason) or type(reason).__name__) from error


def _read(response: HTTPResponse) -> bytes:
    """A chunk; failures of the network are told apart from those of the disk."""
    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """urllib would also follow to ftp."""

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
    except ValueError:  # a port or an IPv6 host that is none
        good = False
    if not (good and url.isascii() and url.isprintable() and " " not in url):
        raise DataError(f"{url!r} is no http:// or https:// address")


def _check_announced(url: str, response: HTTPResponse, size: int, part: Path) -> None:
    """Raise if the server announces a file of another length: a wrong mirror, or a sign-in page."""
    if response.status == 206:
        told = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    else:
        told = response.headers.get("Content-Length") or ""
    if told.isdecimal() and int(told) != size:
        _give_up(url, f"the server announces {int(told):,} bytes, the published file has {size:,}", part)


def _starts_at(response: HTTPResponse) -> int | None:
    """The first byte of a partial answer; a server may send another range than it was asked for."""
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
    raise DataError(
        f"{origin} is another file than the published one: it has {what}, expected {expected}; {remedy}"
    )


def _unpack(packed: Path, archive: Archive, place: Path) -> None:
    """The archive's one folder, unpacked beside its place and then renamed."""
    folder = archive.folder
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder}.", suffix=".part", dir=place))
    try:
        with tarfile.open(packed) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] == (folder,)
                if not inside or not (member.isfile() or member.isdir()):
                    raise DataError(
                        f"{packed}: {member.name!r} is no plain file in {folder}/; nothing was unpacked"
                    )
                if member.isfile():
                    target = temporary / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
        for name in archive.files:
            if not (temporary / folder / name).is_file():
                raise DataError(f"{packed}: there is no {folder}/{name} in it")
        (temporary / folder).rename(place / folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{packed} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
