"""Who may write where: outputs are checked before the work, and locked while it lasts."""

from __future__ import annotations

import atexit
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tbft.errors import WriteError
from tbft.files.disk import is_file_of, lock
from tbft.files.kinds import Kind
from tbft.files.write_errors import explained

#: Lock file -> the handle by which it is held, and the process that holds it.
_locks: dict[Path, tuple[int, int]] = {}
#: Never through a link planted in a shared folder.
_LOCK_MODE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


def check_writable(
    path: str | Path, kind: Kind | None = None, inputs: Iterable[str | Path | None] = ()
) -> Path:
    """Return `path` if a file can be written there; do it before the work, not after.

    Args:
        kind: of the file, whose suffix the name has to have; None: any.
        inputs: files that the work reads, which it must not write over.

    Raises:
        WriteError: the folder is missing or not writable, the path is a folder, a device, a pipe or a file of
            another kind, has another suffix, or is one of `inputs`.
    """
    target = Path(path)
    if kind is not None and target.suffix != kind.suffix:
        raise WriteError(f"cannot write {target}: it is written as {kind.suffix}; give a name that ends so")
    with explained(target):
        if target.is_dir():
            raise WriteError(f"cannot write {target}: it is a folder; give the name of a file")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise WriteError(f"cannot write {target}: it is a device or a pipe; give the name of a file")
        if target.exists() and not os.access(target, os.W_OK):
            raise WriteError(f"cannot write {target}: it is write-protected; allow it, or give another name")
        for other in inputs:
            if other is not None and target.exists() and Path(other).exists() and target.samefile(other):
                raise WriteError(f"cannot write {target}: it is read from, too; give another name")
        if kind is not None:
            kind.check_replaces(target)
        real = Path(os.path.realpath(target))
        if target.is_symlink() and real.is_symlink():
            raise WriteError(f"cannot write {target}: it is a link that leads to itself; give another name")
        folder = real.parent
        if not folder.is_dir():
            raise WriteError(f"cannot write {target}: the folder {folder} does not exist; make it first")
        with tempfile.TemporaryFile(dir=folder):
            pass
    return target


def claim(path: str | Path, kind: Kind | None = None, inputs: Iterable[str | Path | None] = ()) -> Path:
    """:func:`check_writable`, and nobody else may claim the path until :func:`release_claims`.

    The lock ends with the process, however that ends.

    Raises:
        WriteError: as there, or another process has claimed it.
    """
    target = check_writable(path, kind, inputs)
    _lock(target)
    return target


@contextmanager
def claimed(path: str | Path) -> Iterator[Path]:
    """:func:`claim` for the time of the body, unless this process has claimed the path before."""
    target = check_writable(path)
    place = _lock(target)
    try:
        yield target
    finally:
        if place is not None:
            _release(place)


@atexit.register
def release_claims() -> None:
    """Let others claim what this process has claimed."""
    for place in list(_locks):
        _release(place)


def _lock(target: Path) -> Path | None:
    """The lock file that claims a path; None if this process has it already."""
    real = Path(os.path.realpath(target))
    place = real.with_name(f".{real.name}.lock" if len(os.fsencode(real.name)) < 240 else ".tbft.lock")
    if place in _locks:
        return None
    with explained(real):
        handle = _locked_file(place)
    if handle is None:
        owner = _owner(place)
        who = f"process {owner}" if owner else "another process"
        raise WriteError(f"{target} is being written by {who}: wait for it, or give another name")
    _locks[place] = handle, os.getpid()
    return place


def _release(place: Path) -> None:
    handle, owner = _locks.pop(place)
    if owner == os.getpid():  # and not a fork of it
        place.unlink(missing_ok=True)
    os.close(handle)


def _owner(place: Path) -> str:
    """The process id that a lock file names; empty if it names none."""
    with suppress(OSError):
        text = place.read_bytes()[:20].strip()
        return text.decode() if text.isdigit() else ""
    return ""


def _locked_file(place: Path) -> int | None:
    """The handle of a lock file that is now ours; None if it is another's."""
    while True:
        handle = os.open(place, _LOCK_MODE, 0o600)
        try:
            if lock(handle) is False:
                os.close(handle)
                return None
            if is_file_of(place, handle):
                with suppress(OSError):  # the lock holds without the process id, as on a full disk
                    os.ftruncate(handle, 0)
                    os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever had it has removed it meanwhile
