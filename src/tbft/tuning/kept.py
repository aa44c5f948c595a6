"""Files that tuning keeps in a folder: prefix caches, unfinished runs, and leftovers of killed processes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tbft.errors import DataError
from tbft.files import leftovers
from tbft.tuning.checksummed import is_whole
from tbft.tuning.resume import PURPOSE

CACHE, RUN, LEFTOVER = "prefix cache", "unfinished run", "leftover"

_CACHE_NAME = re.compile(r"prefix-[0-9a-f]{32}\.npy")


@dataclass(frozen=True)
class Kept:
    """A file that tuning keeps.

    Attributes:
        kind: ``prefix cache``, ``unfinished run`` or ``leftover``.
        modified: time of the last change, in seconds since 1970.
        whole: whether its checksum matches; None for a leftover, which is never used.
    """

    path: Path
    kind: str
    size_bytes: int
    modified: float
    whole: bool | None


def kept_in(folder: str | Path) -> list[Kept]:
    """The files that tuning keeps in a folder, recognized by their names, sorted by path.

    Raises:
        DataError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    kept = [_kept(path, CACHE, path.name) for path in root.iterdir() if _CACHE_NAME.fullmatch(path.name)]
    kept += [_kept(path, RUN, PURPOSE) for path in root.glob("*.resume.pt") if path.is_file()]
    kept += [_kept(path, LEFTOVER, None) for path in leftovers(root)]
    return sorted(kept, key=lambda file: file.path)


def _kept(path: Path, kind: str, purpose: str | None) -> Kept:
    status = path.stat()
    whole = None if purpose is None else is_whole(path, purpose)
    return Kept(path, kind, status.st_size, status.st_mtime, whole)
