"""The files of a tar or a zip, listed and read in place; a compressed tar is unpacked once, in one pass."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from tbft.data.entries import Entries, collected, normal
from tbft.data.members import Listing, Member, counted, list_folder, printable
from tbft.data.zips import list_zip
from tbft.errors import DataError

_CHUNK = 1 << 20
_COMPRESSIONS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_FOREIGN = (".rar", ".7z", ".zst")
_SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".zip")
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar, compressed or not, or of a zip.

    >>> is_archive(Path("a.tar.gz")), is_archive(Path("a.npz"))
    (True, False)
    """
    name = path.name.lower()
    return name.endswith(_SUFFIXES + _FOREIGN) or ".tar." in name


def list_members(path: Path) -> Listing:
    """The files of a folder, a tar (compressed or not) or a zip.

    Raises:
        DataError: it cannot be opened.
    """
    if path.is_dir():
        listing = list_folder(path)
        archives = [] if listing.pictures else [p for p in sorted(path.iterdir()) if is_archive(p)]
        return _joined(listing, archives) if archives else listing
    if path.name.lower().endswith(_FOREIGN):
        raise DataError(f"{path}: {path.suffix} cannot be read; unpack it, and give the folder")
    return list_zip(path) if path.suffix.lower() == ".zip" else list_tar(path)


def _joined(folder: Listing, archives: Sequence[Path]) -> Listing:
    """Archives in one folder, such as shards or one per class, each in place of a folder of its name."""
    made = Listing(folder.name, damaged=folder.damaged, notes=folder.notes, from_archives=True)
    for path in archives:
        inside = list_members(path)
        top = printable(path.name.partition(".")[0])
        found_pictures = inside.pictures if inside.noun == "picture" else []
        rest = inside.others if found_pictures else [*inside.others, *inside.pictures]
        for members, found in ((made.pictures, found_pictures), (made.others, rest)):
            members.extend(Member((top, *m.parts), m.read) for m in found)
        made.folders |= {(top, *parts) for parts in inside.folders}
        made.damaged += inside.damaged
        made.notes += [f"{printable(path.name)}: {note}" for note in inside.notes]
    names = {printable(path.name) for path in archives}
    made.others += [m for m in folder.others if m.parts[0] not in names]
    made.take_recordings()
    return made


def list_tar(path: Path) -> Listing:
    """The files of a tar. Of files that were added again under the same name, the last one counts.

    Raises:
        DataError: it is not a tar.
    """
    file, cut = _decompressed(path)
    shared = _SharedFile(file)
    entries = Entries()
    try:
        tar = tarfile.TarFile(fileobj=file)
    except _DAMAGE as error:
        file.close()
        raise DataError(f"{path} is damaged, or not a tar: {cut or error}") from error
    found = _scan(tar, entries, shared)
    cut = cut or found
    listing = collected(entries, printable(str(path)))
    if cut:
        whole = counted(len(entries.files), "file")
        listing.damaged.append((printable(path.name), f"{cut} (after {whole})"))
    return listing


def _scan(tar: tarfile.TarFile, entries: Entries, file: _SharedFile) -> str:
    """Add every file of a tar; returns what is wrong with it, if anything."""
    try:
        while (member := tar.next()) is not None:
            _add_tar_member(entries, member, tar, file)
            tar.members.clear()  # type: ignore[attr-defined]  # they would take 1 KiB each
    except _DAMAGE as error:
        return f"it is damaged or cut off: {error}"
    # tarfile takes a damaged header for the end.
    return "it is damaged: a header cannot be read" if file.read_at(tar.offset, 512).strip(b"\0") else ""


def _add_tar_member(
    entries: Entries, member: tarfile.TarInfo, tar: tarfile.TarFile, file: _SharedFile
) -> None:
    if member.isfile():
        sparse = _SparseReader(tar, member, file) if member.issparse() else None
        entries.add(member.name, sparse or _SpanReader(file, member.offset_data, member.size))
    elif member.islnk():  # a hard link: the file that has this name by now
        target = entries.files.get(normal(member.linkname))
        if target is None:
            entries.add_link(member.name, "/" + member.linkname)
        else:
            entries.add(member.name, target)
    elif member.issym():
        entries.add_link(member.name, member.linkname)
    elif member.isdir():
        entries.folders.add(normal(member.name))
    else:
        entries.others.append(member.name)


class _SharedFile:
    """An open file that several threads read from, closed with the last of its readers."""

    def __init__(self, file: IO[bytes]) -> None:
        self.lock, self._file = threading.Lock(), file

    def read_at(self, start: int, size: int) -> bytes:
        with self.lock:
            self._file.seek(start)
            return self._file.read(size)

    def __del__(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _SpanReader:
    file: _SharedFile
    start: int
    size: int

    def __call__(self, limit: int = -1) -> bytes:
        return self.file.read_at(self.start, self.size if limit < 0 else min(limit, self.size))


@dataclass(frozen=True, slots=True)
class _SparseReader:
    tar: tarfile.TarFile
    member: tarfile.TarInfo
    file: _SharedFile

    def __call__(self, limit: int = -1) -> bytes:
        with self.file.lock:
            whole = self.tar.extractfile(self.member)
            assert whole is not None
            return whole.read(limit)


def _decompressed(path: Path) -> tuple[IO[bytes], str]:
    """The tar as a file to read anywhere in, and what is wrong with its compression, if anything."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    head = file.read(8)
    file.seek(0)
    opener = next((made for magic, made in _COMPRESSIONS if head.startswith(magic)), None)
    if opener is None:
        return file, ""
    out = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as its readers
    cut = ""
    with file, opener(file) as unpacked, _progress(path) as bar:
        while True:
            try:
                chunk = unpacked.read1(_CHUNK)  # what comes before any damage
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                cut = f"it is damaged or cut off: {error}"
                break
            if not chunk:
                break
            _write(out, chunk, path)
            bar.update(file.tell() - bar.n)
    out.seek(0)
    return out, cut


def _progress(path: Path) -> Any:
    size = path.stat().st_size
    name = f"unpacking {printable(path.name)}"
    return tqdm(desc=name, total=size, unit="B", unit_scale=True, leave=False, disable=None)


def _write(out: IO[bytes], chunk: bytes, path: Path) -> None:
    try:
        out.write(chunk)
    except OSError as error:
        raise DataError(
            f"{path}: no room to unpack it in {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a "
            "folder with more room, or unpack it yourself and give the folder"
        ) from error
