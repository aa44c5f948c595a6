"""Files are written to a temporary name in the same folder and renamed, so none is ever half there.

File and folder are flushed to disk around the rename: after a power cut there is the old file or the new one.
A killed process leaves a hidden ``.part`` file, which the next process that writes into the folder removes.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tbft.errors import WriteError

_PART = re.compile(r"\..*\.[a-z0-9_]{8}\.part")
#: Folders that this process has cleaned of what dead processes left.
_cleaned: set[Path] = set()
#: Temporary files that are being written, for whoever ends the process without unwinding.
_unfinished: set[Path] = set()
#: Lock file -> the handle by which this process holds it.
_locks: dict[Path, int] = {}

_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some of your quota, or write elsewhere",
    errno.EFBIG: "allow larger files (ulimit -f), or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "allow it, or write elsewhere",
    errno.EPERM: "allow it, or write elsewhere",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "check the disk, or write elsewhere",
}
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def atomic_path(path: str | Path, *, private: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the body ends well, and is removed otherwise.

    A link is followed: what it leads to is replaced.

    Args:
        private: only the user may read the file (0600); otherwise it keeps its mode, or gets the usual one.
        durable: flush it to disk; not needed for what can be made again.

    Raises:
        WriteError: no space, no permission, or anything else that keeps it from being written.
    """
    target = Path(os.path.realpath(path))
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
                _sync_folder(target.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)
            os.close(handle)


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Errors of writing `target`, whoever raises them, as a WriteError that says what to do."""
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        cause = _system_error(error)
        if cause is None and any(isinstance(e, KeyboardInterrupt) for e in _chain(error)):
            raise KeyboardInterrupt from error  # libraries in other languages raise an error of their own
        if cause is None or not (cause.errno in _OF_WRITING or _concerns(cause, target)):
            raise
        remedy = f"; {_REMEDIES[cause.errno]}" if cause.errno in _REMEDIES else ""
        raise WriteError(f"cannot write {target}: {os.strerror(cause.errno or 0)}{remedy}") from error


def check_writable(path: str | Path, suffix: str = "", inputs: Iterable[str | Path | None] = ()) -> Path:
    """Return `path` if a file can be written there; do it before the work, not after.

    Args:
        suffix: that the name has to have, such as ``.safetensors``.
        inputs: files that the work reads, which it must not write over.

    Raises:
        WriteError: the folder is missing or not writable, the path is a folder, a device or a pipe, ends
            otherwise than in `suffix`, or is one of `inputs`.
    """
    target = Path(path)
    if suffix and target.suffix != suffix:
        raise WriteError(f"cannot write {target}: it is written as {suffix}; give a name that ends so")
    with explained(target):
        if target.is_dir():
            raise WriteError(f"cannot write {target}: it is a folder; give the name of a file")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise WriteError(f"cannot write {target}: it is a device or a pipe; give the name of a file")
        for other in inputs:
            if other is not None and target.exists() and Path(other).exists() and target.samefile(other):
                raise WriteError(f"cannot write {target}: it is read from, too; give another name")
        folder = Path(os.path.realpath(target)).parent
        if not folder.is_dir():
            raise WriteError(f"cannot write {target}: the folder {folder} does not exist; make it first")
        with tempfile.TemporaryFile(dir=folder):
            pass
    return target


def claim(path: str | Path, suffix: str = "", inputs: Iterable[str | Path | None] = ()) -> Path:
    """:func:`check_writable`, and nobody else may claim the path until :func:`release_claims`.

    The lock ends with the process, however that ends.

    Raises:
        WriteError: as there, or another process has claimed it.
    """
    target = check_writable(path, suffix, inputs)
    real = Path(os.path.realpath(target))
    place = real.with_name(f".{real.name}.lock" if len(os.fsencode(real.name)) < 240 else ".tbft.lock")
    if place in _locks:
        return target
    with explained(real):
        handle = _locked_file(place)
    if handle is None:
        owner = place.read_text().strip() if place.exists() else ""
        who = f"process {owner}" if owner else "another process"
        raise WriteError(f"{target} is being written by {who}: wait for it, or give another name")
    _locks[place] = handle
    return target


@atexit.register
def release_claims() -> None:
    """Let others claim what this process has claimed."""
    while _locks:
        place, handle = _locks.popitem()
        place.unlink(missing_ok=True)
        os.close(handle)


def abandon() -> None:
    """Remove temporary files and locks: for a process that is about to end without unwinding."""
    for part in list(_unfinished):
        with suppress(OSError):
            part.unlink(missing_ok=True)
    with suppress(OSError):
        release_claims()


def move_aside(path: str | Path) -> Path | None:
    """Rename a file of an earlier run to ``NAME.previous.SUFFIX``, and return that; None if there is none."""
    old = Path(path)
    if not old.exists():
        return None
    aside = old.with_name(f"{old.stem}.previous{old.suffix}")
    with explained(aside):
        old.replace(aside)
        _sync_folder(aside.parent)
    return aside


def allocate(path: Path, size_bytes: int) -> None:
    """Reserve disk space, in the body of :func:`atomic_path`, before a file is written or mapped into memory.

    In a map of a file that has holes, a full disk kills the process.

    Raises:
        OSError: there is less space.
    """
    with path.open("r+b") as file:
        if _fallocate(file.fileno(), size_bytes):
            return
        zeros = bytes(1 << 20)
        for start in range(0, size_bytes, len(zeros)):
            file.write(zeros[: size_bytes - start])


def _fallocate(handle: int, size_bytes: int) -> bool:
    """Let the system reserve the space, if it can."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(handle, 0, size_bytes)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def sync(path: Path) -> None:
    """Flush a file or a folder to disk, where the file system can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    with suppress(PermissionError):  # a folder that may be written but not listed
        sync(folder)


def _part(target: Path) -> tuple[Path, int]:
    """A new temporary file and a handle whose lock says that its process lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
        part = Path(name)
        _unfinished.add(part)
        try:
            _flock(handle)
            if _same(part, handle):  # not taken for a leftover before it was locked
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
        return _flock(handle) is True
    except OSError:
        return False
    finally:
        os.close(handle)


def _locked_file(place: Path) -> int | None:
    """The handle of a lock file that is now ours; None if it is another's."""
    while True:
        handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _flock(handle) is False:
                os.close(handle)
                return None
            if _same(place, handle):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever had it has removed it meanwhile


def _flock(handle: int) -> bool | None:
    """Lock an open file: True if it is ours now, False if another's, None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _mode(target: Path) -> int:
    """That of the file that is replaced, or the one that any newly written file would have."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _system_error(error: BaseException | None) -> OSError | None:
    """The system's error behind another; libraries in other languages hide it in their message."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno is not None:
            return each
        if found := re.search(r"\(os error (\d+)\)", str(each)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _concerns(error: OSError, target: Path) -> bool:
    """Did writing `target` raise this, and not reading something else?"""
    if error.filename is None:  # as of a plain write
        return error.errno in _REMEDIES
    path = Path(os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "")
    return path in (target, target.parent) or path.name.startswith(f".{target.name[:40]}.")
