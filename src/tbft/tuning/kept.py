"""What tuning keeps in a folder: prefix caches, unfinished runs, and what killed processes left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tbft.errors import DataError
from tbft.files import leftovers
from tbft.tuning.resume import PURPOSE
from tbft.tuning.sealed import is_whole

CACHE, RUN, LEFTOVER = "prefix cache", "unfinished run", "leftover"

_CACHE_NAME = re.compile(r"prefix-[0-9a-f]{32}\.npy")


@dataclass(frozen=True)
class Kept:
    """A file that is kept.

    Attributes:
        kind: ``prefix cache``, ``unfinished run`` or ``leftover``.
        modified: seconds since 1970.
        whole: its checksum matches; None for a leftover, which is never used.
    """

    path: Path
    kind: str
    size_bytes: int
    modified: float
    whole: bool | None


def kept_in(folder: str | Path) -> list[Kept]:
    """The files that tuning keeps in a folder, known by their names and checksums, by name.

    Raises:
        DataError: there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder")
    found = [_kept(path, CACHE, path.name) for path in place.iterdir() if _CACHE_NAME.fullmatch(path.name)]
    found += [_kept(path, RUN, PURPOSE) for path in place.glob("*.resume.pt") if path.is_file()]
    found += [_kept(path, LEFTOVER, None) for path in leftovers(place)]
    return sorted(found, key=lambda kept: kept.path)


def _kept(path: Path, kind: str, purpose: str | None) -> Kept:
    found = path.stat()
    whole = None if purpose is None else is_whole(path, purpose)
    return Kept(path, kind, found.st_size, found.st_mtime, whole)
