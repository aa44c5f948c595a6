"""The files of a set, listed alike from a folder, a tar or a zip; nothing is decoded here."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tbft.data.file_kinds import RECORDINGS, is_picture
from tbft.errors import DataError

#: Left by systems and tools among people's files; compared in lower case. Hidden ones begin with a dot.
_SYSTEM = {
    "__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\\r", "@eadir", "lost+found",
    "$recycle.bin", "system volume information",
}  # fmt: skip
_SHOWN = 3


@dataclass(frozen=True)
class Member:
    """One file of a set.

    Attributes:
        parts: names of its folders, from the root of the set, and its own; composed (NFC), with what
            cannot be printed escaped.
        read: its first bytes, as many as are asked for; all for -1.
    """

    parts: tuple[str, ...]
    read: Callable[[int], bytes] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The path below the root of the set."""
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        """In lower case, with its dot; empty if there is none."""
        return PurePosixPath(self.parts[-1]).suffix.lower()


@dataclass
class Listing:
    """The contents of a set.

    Attributes:
        name: of the set, for messages.
        pictures: in the order of their names; recordings, if there are more of them than of pictures.
        others: further files, such as tables, in the order of their names.
        folders: every folder with visible contents or none, as its parts.
        damaged: (name, reason) of what cannot be read at all: links that lead nowhere, the rest of an
            archive that is cut off.
        notes: what was passed over or assumed, a sentence each.
        from_archives: the folders are archives that lie in one folder.
        noun: what `pictures` are, ``picture`` or ``recording``.
    """

    name: str
    pictures: list[Member] = field(default_factory=list)
    others: list[Member] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    from_archives: bool = False
    noun: str = "picture"

    def take_recordings(self) -> None:
        """Where there are more recordings than pictures, they are what the set is about."""
        found = [m for m in self.others if m.suffix in RECORDINGS]
        if len(found) > len(self.pictures):
            others = [m for m in self.others if m.suffix not in RECORDINGS]
            self.others = sorted([*others, *self.pictures], key=lambda m: m.parts)
            self.pictures, self.noun = found, "recording"

    def describe_others(self) -> tuple[str, ...]:
        """A sentence on files that are not pictures, and one on folders without any."""
        said = []
        if self.others:
            said.append(f"passed over, as they are not {self.noun}s: {by_kind(self.others)}")
        above = {m.parts[:i] for m in self.pictures for i in range(len(m.parts))}
        empty = [f for f in sorted(self.folders - above) if f[:-1] in above or not f[:-1]]
        if empty:
            names = some("/".join(f) for f in empty)
            said.append(f"{counted(len(empty), 'folder')} without {self.noun}s passed over: {names}")
        return tuple(said)


class Collector:
    """Sorts the files of a set into a :class:`Listing` as they are found."""

    def __init__(self, name: str) -> None:
        self.listing = Listing(name)
        self._hidden: list[str] = []
        self._hidden_folders: dict[str, None] = {}
        self._stored_as: dict[tuple[str, ...], str] = {}
        self._merged: dict[str, None] = {}

    def passes_over(self, parts: tuple[str, ...], folder: bool = False) -> bool:
        """Note a hidden or system file or folder; False if it is neither."""
        for i, part in enumerate(parts):
            if part.startswith(".") or part.lower() in _SYSTEM:
                if folder or i < len(parts) - 1:
                    self._hidden_folders["/".join(parts[: i + 1])] = None
                else:
                    self._hidden.append("/".join(parts))
                return True
        return False

    def enter(self, parts: tuple[str, ...], stored: str) -> None:
        """Note a folder by its parts, and the name under which it is stored."""
        self.listing.folders.add(parts)
        if self._stored_as.setdefault(parts, stored) != stored:
            self._merged["/".join(parts)] = None

    def add(self, parts: tuple[str, ...], read: Callable[[int], bytes]) -> None:
        """Add a file that is not passed over."""
        member = Member(parts, read)
        (self.listing.pictures if is_picture(member.suffix, read) else self.listing.others).append(member)

    def finish(self) -> Listing:
        """The listing, sorted, with a sentence on hidden and system files."""
        made = self.listing
        made.pictures.sort(key=lambda m: m.parts)
        made.others.sort(key=lambda m: m.parts)
        made.take_recordings()
        for names, what in ((self._hidden, "file"), (list(self._hidden_folders), "folder")):
            if names:
                kind = counted(len(names), f"hidden or system {what}")
                made.notes.append(f"{kind} passed over: {some(sorted(names))}")
        if self._merged:
            made.notes.append(f"folders whose names look the same are read as one: {some(self._merged)}")
        return made


def list_folder(path: Path) -> Listing:
    """The files below a folder; links are followed, unless they lead back to a folder they lie in."""
    collector = Collector(printable(str(path)))
    loops: list[str] = []
    _walk(path, (), frozenset(), collector, loops)
    if loops:
        noted = f"{counted(len(loops), 'link')} to a folder that it lies in passed over: {some(loops)}"
        collector.listing.notes.append(noted)
    return collector.finish()


def _walk(
    place: Path, parts: tuple[str, ...], above: frozenset[tuple[int, int]], found: Collector, loops: list[str]
) -> None:
    try:
        status = place.stat()
        entries = sorted(os.scandir(place), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{printable(str(place))}: the folder cannot be read: {error.strerror}") from error
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        loops.append("/".join(parts))
        return
    if parts:
        found.enter(parts, str(place))
    for entry in entries:
        own = (*parts, printable(entry.name))
        if found.passes_over(own, folder=entry.is_dir()):
            continue
        if entry.is_dir():
            _walk(Path(entry.path), own, above | {identity}, found, loops)
        elif entry.is_file():
            found.add(own, FileReader(entry.path))
        elif entry.is_symlink():
            target = printable(str(Path(entry.path).readlink()))
            found.listing.damaged.append(("/".join(own), f"a link that leads nowhere (to {target})"))
        else:
            found.listing.damaged.append(("/".join(own), "neither a file nor a folder"))


@dataclass(frozen=True)
class FileReader:
    """Reads the first bytes of a file, all of them for -1."""

    path: str

    def __call__(self, limit: int = -1) -> bytes:
        with Path(self.path).open("rb") as file:
            return file.read(limit)


def printable(name: str) -> str:
    r"""A file's name composed (NFC), with undecodable bytes and control characters escaped.

    >>> print(printable("caf\udce9"), printable("cafe\u0301") == "caf\u00e9", printable("a\x1b[1m"))
    caf\xe9 True a\x1b[1m
    """
    text = unicodedata.normalize("NFC", name)
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, what: str) -> str:
    """A number with its noun.

    >>> counted(1, "file"), counted(1200, "picture")
    ('1 file', '1,200 pictures')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def some(names: Iterable[str], at_most: int = _SHOWN) -> str:
    """The first names of many."""
    listed = list(names)
    return ", ".join(listed[:at_most]) + (", ..." if len(listed) > at_most else "")


def by_kind(members: Iterable[Member]) -> str:
    """How many files there are of each suffix, with an example of each kind."""
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}
    for member in members:
        kinds[member.suffix] += 1
        first.setdefault(member.suffix, member.name)
    each = [f"{n:,} {kind or 'without a suffix'} ({first[kind]})" for kind, n in kinds.most_common()]
    return some(each, 5)
