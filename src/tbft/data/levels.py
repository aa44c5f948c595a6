"""What each level of folders holds, where that is certain from their names and from what lies in them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tbft.data.cifar10c import NATURAL, is_corruption
from tbft.data.folder_names import domain_of, part_of, recorded
from tbft.data.members import counted, some
from tbft.errors import DataError

SEVERITY = re.compile(r"(?:severity|level|s)?[ _-]?([1-5])", re.IGNORECASE)


#: Folders that hold nothing but the pictures of the folder they lie in.
_PLAIN = {
    "images", "image", "imgs", "img", "jpegimages", "pictures", "jpeg", "jpg", "png", "rgb", "raw", "frames",
}  # fmt: skip
#: Folders that lie beside them.
_BESIDE = {"masks", "mask", "labels", "annotations", "segmentation", "segmentations", "depth", "gt"}


@dataclass(frozen=True)
class Hints:
    """What is known beforehand.

    Attributes:
        layout: roles of the levels from the top, joined by ``/``; ``class`` once, ``*`` for a level that
            says nothing, ``**`` at the end for any further ones.
        classes: names that a class folder may have: those of the model, or of a class map.
        where: values by which samples are chosen, for each attribute.
        root: name of the folder or archive, without its suffix.
        noun: what the files are.
    """

    layout: str | None = None
    classes: Collection[str] = ()
    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    root: str = ""
    noun: str = "picture"


class Levels:
    """Finds roles for the levels of a tree that is equally deep everywhere."""

    def __init__(
        self, folders: Sequence[tuple[str, ...]], paths: Sequence[tuple[str, ...]], hints: Hints, name: str
    ) -> None:
        self.folders, self.paths, self.hints, self.name = folders, paths, hints, name
        self.noun = hints.noun
        self._check_depth()
        self.names = [set(column) for column in zip(*folders, strict=True)]
        self.found: list[str] = [""] * len(self.names)

    def roles(self) -> list[str]:
        """A role for every level.

        Raises:
            DataError: it is not certain which level holds the classes.
        """
        self._find_severities()
        self._find_parts()
        self._find_wishes()
        self._pass_over_wrappers()
        left = self._left()
        if len(left) == 1:
            self._check_classes(left[0])
            self.found[left[0]] = "class"
        elif len(left) == 2:
            self._find_class_of_two(*left)
        elif left:
            raise DataError(
                f"{self.name}: {self.noun}s lie {len(self.names)} folders deep, as {self._example()}, and it "
                "is not certain which folders are the classes: name every level with --layout, such as "
                f"--layout {'/'.join(['domain', *'*' * (len(self.names) - 2), 'class'])}"
            )
        return self.found

    def _left(self) -> list[int]:
        return [i for i, role in enumerate(self.found) if not role]

    def _example(self) -> str:
        return "/".join(self.paths[0])

    def _check_depth(self) -> None:
        depths: dict[int, list[int]] = defaultdict(list)
        for i, f in enumerate(self.folders):
            depths[len(f)].append(i)
        if set(depths) == {0}:
            raise DataError(
                f"{self.name}: {counted(len(self.paths), self.noun)} and no class folders; expected "
                "<class>/<file>, or a table of labels beside them (labels.csv: file,label)"
            )
        if len(depths) == 1:
            return
        seen = ", ".join(
            f"{counted(len(at), self.noun)} as {'/'.join(self.paths[at[0]])}"
            for _, at in sorted(depths.items())
        )
        parts = [f[0] for f in self.folders if f and part_of(f[0])]
        remedy = f"move or remove the {self.noun}s in no class folder"
        if parts and len(set(parts)) > 1:
            remedy = "give the folder of one part alone, such as " + f"{self.name}/{parts[-1]}"
        elif 0 not in depths:
            remedy = "give --layout 'class/**' if the top folders are the classes, or give one of them alone"
        raise DataError(f"{self.name}: {self.noun}s lie at different depths: {seen}; {remedy}")

    def _check_classes(self, level: int) -> None:
        names = self.names[level]
        kinds = {n.lower() for n in names} <= _PLAIN | _BESIDE
        if (kinds or all(part_of(n) for n in names)) and not self._are_classes(level):
            what = "kinds of files" if kinds else "parts"
            raise DataError(
                f"{self.name}: {some(sorted(names))} name {what} and no classes, as {self._example()} shows; "
                "expected <class>/<file>, <part>/<class>/<file>, or a table of labels beside the pictures "
                "(labels.csv: file,label); --layout class if these are the classes"
            )

    def _find_parts(self) -> None:
        for i in self._left():
            parts = [part_of(n) for n in self.names[i]]
            distinct = None not in parts and len(set(parts)) == len(parts)
            if not distinct or len(self._left()) < 2 or self._are_classes(i):
                continue
            first = self.found.index("part") if "part" in self.found else i
            if all(part_of(f[i]) == part_of(f[first]) for f in self.folders):  # train/train/, as unpacked
                self.found[i] = "part" if first == i else "*"

    def _find_wishes(self) -> None:
        """Samples are chosen by an attribute, and one level alone has a value that is asked for."""
        for key, values in self.hints.where.items():
            at = [i for i in self._left() if self.names[i] & set(values)]
            wanted = key not in ("file", "class", "picture", *self.found) and not self._are_classes(
                at[0] if at else 0
            )
            if len(at) == 1 and wanted and len(self._left()) > 1:
                self.found[at[0]] = key

    def _are_classes(self, level: int) -> bool:
        return bool(self.names[level] & set(self.hints.classes))

    def _find_severities(self) -> None:
        """``[<kind>/]<corruption>/<severity>/<class>`` or ``<corruption>/<class>``, with the same photos."""
        outer = len(self.names) - 2
        if outer < 0 or self._are_classes(outer) or recorded(self.names[outer + 1]) or not self._repeats():
            return
        known = {n for n in self.names[outer] if is_corruption(n)}
        if known == self.names[outer] and known - NATURAL:
            self.found[outer:] = ["corruption", "class"]
        above = self.names[outer - 1] if outer else {self.hints.root}
        if all(SEVERITY.fullmatch(n) for n in self.names[outer]) and any(map(is_corruption, above)):
            self.found[outer:] = ["severity", "class"]
            if outer:
                self.found[outer - 1] = "corruption"
            if outer > 1 and len(self.names[outer - 2]) > 1:
                self.found[outer - 2] = "kind"

    def _repeats(self) -> bool:
        """Whether most files of a class lie in several of the folders above it, if there are several."""
        seen = defaultdict(set)
        for f, path in zip(self.folders, self.paths, strict=True):
            seen[f[-1], path[-1].rpartition(".")[0]].add(f[:-1])
        often = sum(len(places) > 1 for places in seen.values())
        return 2 * often > len(seen) or len({f[:-1] for f in self.folders}) == 1

    def _pass_over_wrappers(self) -> None:
        """Levels of one folder say nothing, as long as another level is left to be the classes."""
        while len(left := self._left()) > 1:
            inner = left[1:-1] if len(left) > 2 else []
            constant = [i for i in [left[0], *inner] if len(self.names[i]) == 1]
            constant = [i for i in constant if not self._are_classes(i)]
            if constant and not (constant[0] == left[0] and recorded(self.names[left[1]])):
                self.found[constant[0]] = "*"
            elif {n.lower() for n in self.names[left[-1]]} <= _PLAIN and not self._are_classes(left[-1]):
                self.found[left[-1]] = "*"
            else:
                return

    def _find_class_of_two(self, outer: int, inner: int) -> None:
        for rule in (self._by_known_classes, self._by_kind):
            if found := rule(outer, inner):
                self.found[outer], self.found[inner] = found
                return
        outside, inside = (f"{some(sorted(self.names[i]))} ({len(self.names[i])})" for i in (outer, inner))
        word = recorded(self.names[inner]) or "domain"
        layouts = [
            "/".join(role or {outer: a, inner: b}[i] for i, role in enumerate(self.found))
            for a, b in (("class", word), ("domain", "class"))
        ]
        names = "domain" if word == "domain" else f"{word} or domain"
        raise DataError(
            f"{self.name}: {self.noun}s lie {len(self.names)} folders deep, as {self._example()}, and it is "
            f"not certain which folders are the classes, {outside} or {inside}: say it with --layout "
            f"'{layouts[0]}' or '{layouts[1]}' (any other name in place of {names}; * if it says nothing)"
        )

    def _by_known_classes(self, outer: int, inner: int) -> tuple[str, str] | None:
        """The classes are where folders have names that the model knows, if only one level has."""
        if self._are_classes(outer) == self._are_classes(inner):
            return None
        if self._are_classes(inner):
            return recorded(self.names[outer]) or "domain", "class"
        return "class", recorded(self.names[inner]) or "folder"

    def _by_kind(self, outer: int, inner: int) -> tuple[str, str] | None:
        """By the names of folders: sessions and days, or domains of published sets."""
        kinds = [recorded(self.names[i]) or domain_of(self.names[i]) for i in (outer, inner)]
        if not kinds[0] or kinds[1]:
            return None
        shared = Counter(n for _, n in {(f[outer], f[inner]) for f in self.folders})
        return (kinds[0], "class") if max(shared.values()) > 1 or len(self.names[outer]) == 1 else None
