"""Errors of writing, whoever raises them, in words that say what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tbft.errors import WriteError

_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some of your quota, or write elsewhere",
    errno.EFBIG: "allow larger files (ulimit -f), or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "allow it, or write elsewhere",
    errno.EPERM: "allow it, or write elsewhere",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the links there, or write elsewhere",
    errno.EIO: "check the disk, or write elsewhere",
}
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


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
