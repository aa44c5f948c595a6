"""Derive the class maps of BREEDS from its hierarchy: `python tools/derive_class_maps.py FOLDER`.

FOLDER is `imagenet_class_hierarchy/modified` of MadryLab/BREEDS-Benchmarks, here at commit f83be50. The
steps follow Santurkar et al. (2020) and draw the same random numbers as `robustness.tools.breeds_helpers`
(MIT), so the leaves are the same, in the same order.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "src" / "tbft" / "data" / "hierarchies"
ENTITY, LIVING, NONLIVING = "n00001740", "n00004258", "n00021939"
#: Name -> the superclasses: those below this node, at this depth, with at least this many leaves.
MAPS = {
    "living17": (LIVING, 5, 4),
    "nonliving26": (NONLIVING, 5, 4),
    "entity13": (ENTITY, 3, 20),
    "entity30": (ENTITY, 4, 8),
}
SPLITS = ("rand", "good", "bad", "none")
SEED = 2

Sides = tuple[list[str], list[str]]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """WordNet nodes above the classes of ImageNet.

    Attributes:
        children: of each node, sorted.
        names: of the nodes.
        leaf_names: of the classes of ImageNet.
    """

    children: dict[str, list[str]]
    names: dict[str, str]
    leaf_names: dict[str, str]

    def leaves(self, node: str) -> frozenset[str]:
        """The classes of ImageNet at or below a node."""
        if node in self.leaf_names:
            return frozenset([node])
        return frozenset().union(*(self.leaves(child) for child in self.children.get(node, ())))

    def depths(self) -> dict[str, int]:
        """The length of the longest path from the root to each node."""
        found: dict[str, int] = {}

        def visit(node: str, depth: int) -> None:
            if depth > found.get(node, -1):
                found[node] = depth
                for child in self.children.get(node, ()):
                    visit(child, depth + 1)

        visit(ENTITY, 0)
        return found

    def below(self, node: str) -> set[str]:
        """A node and all nodes below it."""
        return {node}.union(*(self.below(child) for child in self.children.get(node, ())))

    def superclasses(self, ancestor: str, depth: int, count: int) -> list[str]:
        """Nodes below `ancestor`, at this depth, with at least `count` leaves."""
        depths = self.depths()
        at_depth = (node for node in self.below(ancestor) if depths[node] == depth)
        return sorted(node for node in at_depth if len(self.leaves(node)) >= count)

    def groups(self, superclass: str) -> list[list[str]]:
        """The leaves of a superclass, grouped by its children; chains of only children are skipped."""
        kinds = [superclass]
        while len(kinds) == 1:
            kinds = [child for child in self.children[kinds[0]] if self.leaves(child)]
        return [sorted(self.leaves(kind)) for kind in kinds]


def read_hierarchy(folder: Path) -> Hierarchy:
    """The three files that BREEDS publishes."""
    children: dict[str, list[str]] = {}
    for line in (folder / "class_hierarchy.txt").read_text().splitlines():
        parent, child = line.split()
        children.setdefault(parent, []).append(child)
    names = (line.split("\t")[:2] for line in (folder / "node_names.txt").read_text().splitlines())
    leaves = json.loads((folder / "dataset_class_info.json").read_text())
    return Hierarchy(
        {parent: sorted(set(found)) for parent, found in children.items()},
        {node: name.strip() for node, name in names},
        {wnid: name for _, wnid, name in leaves},
    )


def derive(hierarchy: Hierarchy, name: str, split: str) -> dict[str, Sides]:
    """Superclass -> its source and its target leaves, in label order."""
    ancestor, depth, count = MAPS[name]
    generator = np.random.RandomState(SEED)  # NumPy guarantees that its numbers stay the same
    part = {"rand": at_random, "good": alike_on_both_sides, "bad": alike_on_one_side}
    found: dict[str, Sides] = {}
    for node in hierarchy.superclasses(ancestor, depth, count):
        if split == "none":
            leaves = sorted(hierarchy.leaves(node))
            found[hierarchy.names[node]] = generator.choice(leaves, count, replace=False).tolist(), []
        else:
            found[hierarchy.names[node]] = part[split](hierarchy.groups(node), count // 2, generator)
    return found


def at_random(groups: list[list[str]], half: int, generator: np.random.RandomState) -> Sides:
    """Leaves drawn from all groups."""
    drawn = generator.choice(sorted(chain(*groups)), 2 * half, replace=False).tolist()
    return drawn[:half], drawn[half:]


def alike_on_both_sides(groups: list[list[str]], half: int, generator: np.random.RandomState) -> Sides:
    """Half of each group per domain, largest first, so that target leaves have similar source leaves."""
    left: list[str] = []
    right: list[str] = []
    for group in sorted(groups, key=len, reverse=True):
        middle = min(max(1, len(group) // 2), half - len(left))
        left += group[:middle]
        right += group[middle : middle + half - len(right)]
    return left, right


def alike_on_one_side(groups: list[list[str]], half: int, generator: np.random.RandomState) -> Sides:
    """Whole groups to the smaller domain, largest first; the excess fills the gaps."""
    left: list[str] = []
    right: list[str] = []
    spare: list[str] = []
    for group in sorted(groups, key=len, reverse=True):
        side = right if len(left) > len(right) else left
        room = half - len(side)
        side += group[:room]
        spare += group[room:]
    return left + spare[: half - len(left)], right + spare[: half - len(right)]


def record(hierarchy: Hierarchy, name: str) -> dict[str, object]:
    """One class map with all its splits, in the format that tbft reads."""
    splits = {split: derive(hierarchy, name, split) for split in SPLITS}
    used = {leaf for found in splits.values() for sides in found.values() for leaf in chain(*sides)}
    written = {
        split: {
            superclass: {"source": source, "target": target} if target else source
            for superclass, (source, target) in found.items()
        }
        for split, found in splits.items()
    }
    return {"splits": written, "leaf_names": {leaf: hierarchy.leaf_names[leaf] for leaf in sorted(used)}}


def to_json(found: dict[str, object]) -> str:
    """JSON with each list on one line."""
    lists = re.compile(r"\[[^][]*\]")
    return lists.sub(lambda match: json.dumps(json.loads(match[0])), json.dumps(found, indent=1)) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    whole = read_hierarchy(Path(sys.argv[1]))
    for one in MAPS:
        (OUT / f"{one}.json").write_text(to_json(record(whole, one)), encoding="utf-8")
