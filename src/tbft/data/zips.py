"""The files of a zip, listed and read in place."""

from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tbft.data.entries import Entries, collected, normal
from tbft.data.members import Listing, printable
from tbft.errors import DataError


def list_zip(path: Path) -> Listing:
    """The files of a zip.

    Raises:
        DataError: it is not a zip, or it is encrypted.
    """
    entries = Entries()
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged, or not a zip: {error}") from error
    for info in archive.infolist():
        if info.flag_bits & 1:
            name = printable(info.filename)
            raise DataError(f"{path} is encrypted ({name}): unpack it, and give the folder")
        reader = _ZipReader(archive, info)
        name = info.filename.replace("\\", "/")  # as some Windows programs write it
        if name.endswith("/"):
            entries.folders.add(normal(name))
        elif stat.S_ISLNK(info.external_attr >> 16):
            entries.add_link(name, _link_target(reader))
        else:
            entries.add(name, reader)
    return collected(entries, printable(str(path)))


def _link_target(reader: _ZipReader) -> str:
    try:
        return os.fsdecode(reader(-1))
    except Exception:  # damaged: it leads nowhere, and is named as such
        return "?"


@dataclass(frozen=True)
class _ZipReader:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def __call__(self, limit: int = -1) -> bytes:
        with self.archive.open(self.info) as file:
            return file.read(limit)
