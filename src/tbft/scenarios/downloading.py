"""Download a file of known length and checksum, resuming where it stopped."""

from __future__ import annotations

import hashlib
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tqdm import tqdm

from tbft.errors import DataError

TIMEOUT_SECONDS = 30.0
#: Pauses before retrying after a broken connection; they start over after an attempt that brought new bytes.
PAUSES_SECONDS = (1.0, 3.0, 10.0, 30.0)
_CHUNK = 1 << 18


class _ConnectionLostError(Exception):
    """The connection failed; another attempt may succeed."""


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
        check_file(url, part, size, sha256, "it was removed; try again, or give a mirror with --url")
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


def check_file(origin: str, path: Path, size: int, sha256: str, remedy: str) -> None:
    """Raise DataError unless a file has this length and checksum.

    Args:
        origin: where the file comes from, for the message.
        remedy: what to do, for the message.
    """
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
