"""Files are written to a temporary name in the same folder and renamed, so none is ever half there.

File and folder are flushed to disk around the rename: after a power cut there is the old file or the new one.
A killed process leaves a hidden ``.part`` file, which the next process that writes into the folder removes.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tbft.files.disk import is_file_of, lock, sync, sync_folder
from tbft.files.kinds import Kind
from tbft.files.write_errors import explained

_PART = re.compile(r"\..*\.[a-z0-9_]{8}\.part")
#: Folders that this process has cleaned of what dead processes left.
_cleaned: set[Path] = set()
#: Temporary files that are being written, for whoever ends the process without unwinding.
_unfinished: set[Path] = set()


@contextmanager
def atomic_path(
    path: str | Path, *, private: bool = False, durable: bool = True, kind: Kind | None = None
) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the body ends well, and is removed otherwise.

    A link is followed: what it leads to is replaced.

    Args:
        private: only the user may read the file (0600); otherwise it keeps its mode, or gets the usual one.
        durable: flush it to disk; not needed for what can be made again.
        kind: of the file; one of another kind is not replaced.

    Raises:
        WriteError: no space, no permission, or anything else that keeps it from being written.
    """
    target = Path(os.path.realpath(path))
    if kind is not None:
        kind.check_replaces(target)
    temporary, handle = None, -1
    try:
        with explained(target):
            _remove_leftovers(target.parent)
            temporary, handle = _part(target)
            yield temporary
            temporary.chmod(0o600 if private else _mode(target))
            if durable:
                sync(temporary)
            temporary.replace(target)
            if durable:
                sync_folder(target.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)
            os.close(handle)


def remove_unfinished() -> None:
    """Remove the temporary files of this process, which is about to end without unwinding."""
    for part in list(_unfinished):
        with suppress(OSError):
            part.unlink(missing_ok=True)


def move_aside(path: str | Path) -> Path | None:
    """Rename a file of an earlier run, and return its new path; None if there is none.

    The new name is ``NAME.previous.SUFFIX``, or ``NAME.previous-2.SUFFIX`` and so on if that is taken.
    """
    old = Path(path)
    if not old.exists():
        return None
    names = (f"{old.stem}.previous{'' if n == 1 else f'-{n}'}{old.suffix}" for n in count(1))
    aside = next(old.with_name(name) for name in names if not os.path.lexists(old.with_name(name)))
    with explained(aside):
        old.rename(aside)
        sync_folder(aside.parent)
    return aside


def _mode(target: Path) -> int:
    """That of the file that is replaced, or the one that any newly written file would have."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _part(target: Path) -> tuple[Path, int]:
    """A new temporary file and a handle whose lock says that its process lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
        part = Path(name)
        _unfinished.add(part)
        try:
            lock(handle)
            if is_file_of(part, handle):  # not taken for a leftover before it was locked
                return part, handle
        except BaseException:
            part.unlink(missing_ok=True)
            os.close(handle)
            _unfinished.discard(part)
            raise
        os.close(handle)
        _unfinished.discard(part)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder whose process is dead."""
    parts = [p for p in folder.iterdir() if _PART.fullmatch(p.name) and p.is_file() and not p.is_symlink()]
    return [part for part in parts if _abandoned(part)]


def _remove_leftovers(folder: Path) -> None:
    """Remove what dead processes left; once a folder."""
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with suppress(OSError):  # a folder that may be written but not listed
        for part in leftovers(folder):
            part.unlink(missing_ok=True)


def _abandoned(part: Path) -> bool:
    """Does no living process hold the lock of a temporary file?"""
    try:
        handle = os.open(part, os.O_RDWR)
    except OSError:
        return False
    try:
        return lock(handle) is True
    except OSError:
        return False
    finally:
        os.close(handle)
