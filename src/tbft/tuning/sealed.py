"""Files of unfinished work that end in a checksum over all that stands before.

What is found damaged is told from what is whole before any of it is used.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

_TRAILER = re.compile(rb"\ntbft sha256 ([0-9a-f]{64})\n")
TRAILER_BYTES = 78


class SealedWriter:
    """Writes into a file and adds its checksum at the end.

    Args:
        file: open for writing.
        purpose: what the file is for; a whole file of another purpose counts as damaged.
    """

    def __init__(self, file: BinaryIO, purpose: str) -> None:
        self._file, self._digest = file, hashlib.sha256(purpose.encode())

    def write(self, data: bytes | memoryview) -> int:
        """Add to the file."""
        view = memoryview(data)
        self._digest.update(view)
        self._file.write(view)
        return view.nbytes

    def flush(self) -> None:
        """Hand on to the system what is not yet."""
        self._file.flush()

    def seal(self) -> None:
        """Add the checksum; nothing may be written after it."""
        self._file.write(f"\ntbft sha256 {self._digest.hexdigest()}\n".encode())


def is_whole(path: Path, purpose: str) -> bool:
    """Does a file's checksum match all that stands before it?"""
    with path.open("rb") as file:
        left = path.stat().st_size - TRAILER_BYTES
        digest = hashlib.sha256(purpose.encode())
        while left > 0:
            part = file.read(min(left, 1 << 20))
            if not part:
                return False
            digest.update(part)
            left -= len(part)
        found = _TRAILER.fullmatch(file.read(TRAILER_BYTES + 1))
    return left == 0 and found is not None and found[1].decode() == digest.hexdigest()
