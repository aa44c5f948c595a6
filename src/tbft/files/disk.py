"""What the file system can do, and what it does where it cannot: flushing, reserving space, locking."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


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
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def sync(path: Path) -> None:
    """Flush a file or a folder to disk, where the file system can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, where that is possible."""
    with suppress(PermissionError):  # a folder that may be written but not listed
        sync(folder)


def lock(handle: int) -> bool | None:
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
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def is_file_of(path: Path, handle: int) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
