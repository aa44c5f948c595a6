"""Files are written to a temporary name in the same folder and renamed, so none is ever half there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tbft.errors import TbftError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the body ends well, and is removed otherwise."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result gets the mode any newly written file would have.
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path, suffix: str = "") -> Path:
    """Return `path` if a file can be written there; do it before the work, not after.

    Raises:
        TbftError: the folder is missing or not writable, the path is a folder, or ends otherwise
            than in `suffix`.
    """
    target = Path(path)
    if suffix and target.suffix != suffix:
        raise TbftError(f"cannot write {target}: it is written as {suffix}; give a name that ends so")
    if target.is_dir():
        raise TbftError(f"cannot write {target}: it is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise TbftError(f"cannot write {target}: the folder {target.parent} does not exist; make it first")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise TbftError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
