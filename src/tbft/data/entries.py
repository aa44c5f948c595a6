"""What an archive holds under each path: later copies take the place of earlier ones, links are followed."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from tbft.data.members import Collector, Listing, counted, printable, some

Read = Callable[[int], bytes]


@dataclass
class Entries:
    """What an archive holds under each path; what is added later under the same path takes its place."""

    files: dict[str, Read] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)  # path -> the path that a symbolic link names
    folders: set[str] = field(default_factory=set)
    replaced: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # devices, pipes
    outside: list[str] = field(default_factory=list)  # names that lead out of the archive

    def add(self, name: str, read: Read) -> None:
        """Add a file."""
        path = normal(name)
        if posixpath.normpath(name).startswith("../"):
            self.outside.append(name)
        if path in self.files:
            self.replaced.append(path)
        self.links.pop(path, None)
        self.files[path] = read

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link; `target` is relative to the folder that it lies in."""
        path = normal(name)
        self.files.pop(path, None)
        self.links[path] = normal(posixpath.join(posixpath.dirname(path), target))


def normal(name: str) -> str:
    """A path below the root, without `.`, `..` and slashes at its ends."""
    return posixpath.normpath("/" + name).lstrip("/")


def collected(entries: Entries, name: str) -> Listing:
    """Sort the files as those of a folder are, with links followed."""
    collector = Collector(name)
    loops = _follow(entries, collector)
    for path, read in entries.files.items():
        parts = tuple(printable(part) for part in path.split("/"))
        if collector.passes_over(parts):
            continue
        collector.add(parts, read)
        stored = path.split("/")
        for i in range(1, len(parts)):
            collector.enter(parts[:i], "/".join(stored[:i]))
    for name in entries.others:
        collector.listing.damaged.append((printable(name), "neither a file nor a folder"))
    for path in entries.folders - {""}:
        parts = tuple(printable(part) for part in path.split("/"))
        if not collector.passes_over(parts, folder=True):
            collector.enter(parts, path)
    notes = collector.listing.notes
    if entries.replaced:
        kind = counted(len(entries.replaced), "file")
        notes.append(
            f"{kind} in it more than once, the last copy taken: {some(map(printable, entries.replaced))}"
        )
    if entries.outside:
        kind = counted(len(entries.outside), "file")
        names = some(map(printable, entries.outside))
        notes.append(f"{kind} with a path that leads out of the archive, read as if inside: {names}")
    if loops:
        notes.append(f"{counted(len(loops), 'link')} to a folder that it lies in passed over: {some(loops)}")
    return collector.finish()


def _follow(entries: Entries, collector: Collector) -> list[str]:
    """Put what links lead to in their place; returns those that lead to a folder that they lie in."""
    left, loops = dict(entries.links), []
    while left:
        folders = {path[:i] for path in entries.files for i, c in enumerate(path) if c == "/"} | {""}
        followed = {
            path: target for path, target in left.items() if target in entries.files or target in folders
        }
        for path, target in followed.items():
            del left[path]
            if not target or path.startswith(target + "/"):
                loops.append(printable(path))
            elif target in entries.files:
                entries.files[path] = entries.files[target]
            else:
                below = [p for p in entries.files if p.startswith(target + "/")]
                entries.files.update({path + p[len(target) :]: entries.files[p] for p in below})
        if not followed:
            break
    for path, target in left.items():
        parts = tuple(printable(part) for part in path.split("/"))
        if not collector.passes_over(parts):
            reason = f"a link that leads nowhere in the archive (to {printable(target)})"
            collector.listing.damaged.append(("/".join(parts), reason))
    return loops
