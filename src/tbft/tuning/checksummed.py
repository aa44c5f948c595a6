"""Files that end with a checksum of everything before it, so that damage is detected before they are used."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

_TRAILER = re.compile(rb"\ntbft sha256 ([0-9a-f]{64})\n")
TRAILER_BYTES = 78


class ChecksumWriter:
    """Writes to a file and adds its checksum at the end.

    Args:
        file: a file open for writing.
        purpose: what the file is for; an intact file for another purpose counts as damaged.
    """

    def __init__(self, file: BinaryIO, purpose: str) -> None:
        self._file, self._digest = file, hashlib.sha256(purpose.encode())

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes."""
        view = memoryview(data)
        self._digest.update(view)
        self._file.write(view)
        return view.nbytes

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def finish(self) -> None:
        """Write the checksum; nothing may be written after it."""
        self._file.write(f"\ntbft sha256 {self._digest.hexdigest()}\n".encode())


def is_whole(path: Path, purpose: str) -> bool:
    """Whether a file's checksum matches everything before it."""
    with path.open("rb") as file:
        left = path.stat().st_size - TRAILER_BYTES
        digest = hashlib.sha256(purpose.encode())
        while left > 0:
            part = file.read(min(left, 1 << 20))
            if not part:
                return False
            digest.update(part)
            left -= len(part)
        trailer = _TRAILER.fullmatch(file.read(TRAILER_BYTES + 1))
    return left == 0 and trailer is not None and trailer[1].decode() == digest.hexdigest()
