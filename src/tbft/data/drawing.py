"""Drawing the samples of each part: out of every class at random or in order, or by whole groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.data.amounts import Amount
from tbft.data.copies import Copies
from tbft.errors import DataError

Indices = npt.NDArray[np.int64]
Drawn = dict[str, Indices]

NOTHING: Indices = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples of one class in the order in which they are drawn.

    Attributes:
        members: their positions in the set.
        copies: for each position of the set, the first with the same input; None: they may be separated.
    """

    label: int
    members: Indices
    copies: Indices | None = None


def random_pools(labels: Indices, generator: np.random.Generator, copies: Indices | None) -> list[Pool]:
    """The samples of each class in a random order."""
    return [
        Pool(int(c), generator.permutation(np.flatnonzero(labels == c)), copies) for c in np.unique(labels)
    ]


def pools_in_time(labels: Indices, groups: Indices | None, ranks: Indices) -> list[Pool]:
    """The samples of each class, in each group, from the first to the last."""
    strata = labels if groups is None else labels + (labels.max() + 1) * groups
    order = np.argsort(ranks)
    members = [order[strata[order] == s] for s in np.unique(strata)]
    return [Pool(int(labels[m[0]]), m) for m in members]


def draw(
    pools: Sequence[Pool],
    asked: Mapping[str, Amount],
    name: str,
    keep: int = 0,
    class_names: Sequence[str] = (),
) -> Drawn:
    """Take each part, in the order of `asked`, from the beginning of what is left of every pool.

    Args:
        asked: a part gets of each pool in proportion to its size.
        name: of the set, for messages.
        keep: samples of each pool that no other part than train may take.
        class_names: for messages.
    """
    left = [pool.members for pool in pools]
    sizes = np.array([len(members) for members in left])
    classes = np.array([pool.label for pool in pools])
    drawn: Drawn = {}
    for part, amount in asked.items():
        remaining = np.array([len(members) for members in left])
        spare = remaining if amount.is_rest or part == "train" else np.maximum(remaining - keep, 0)
        kept = ", since train keeps one of each class" if (spare < remaining).any() else ""
        what = f"{name}: the {part} part ({amount}) needs {{}} but {{}} are left{kept}; ask for less"
        if amount.is_rest:
            counts = remaining
        elif amount.per_class is None:
            counts = _shares(amount.of(int(sizes.sum())), sizes, spare, what)
        else:
            counts = np.zeros_like(sizes)
            for c in np.unique(classes):
                at, of = classes == c, class_names[c] if len(class_names) else f"class {c}"
                counts[at] = _shares(amount.per_class, sizes[at], spare[at], what, f" of {of}")
        chosen = [_split_off(m, n, p.copies) for m, n, p in zip(left, counts, pools, strict=True)]
        drawn[part] = np.concatenate([taken for taken, _ in chosen])
        left = [rest for _, rest in chosen]
    return drawn


def deal(pools: Sequence[Pool], total: int, count: int) -> Indices:
    """The fold of each of `total` samples, out of `count`.

    Each pool goes in as many stretches as there are folds; small pools start where the last one ended.
    """
    folds = np.zeros(total, dtype=np.int64)
    start = 0
    for pool in pools:
        size = len(pool.members)
        stretches = np.arange(size) * min(count, size) // size
        folds[pool.members] = (stretches + start) % count
        start += size
    return folds


def _shares(wanted: int, sizes: Indices, left: Indices, what: str, of: str = "") -> Indices:
    """How many samples of each pool add up to the wanted number, in proportion to the sizes."""
    if wanted > left.sum():
        samples = "sample" if wanted == 1 else "samples"
        raise DataError(what.format(f"{wanted} {samples}{of},", int(left.sum())))
    exact = wanted * sizes / sizes.sum()
    counts = np.minimum(np.floor(exact).astype(np.int64), left)
    # The shortfall goes, one by one, to the pool furthest below its share that has samples left.
    while counts.sum() < wanted:
        counts[np.argmax(np.where(counts < left, exact - counts, -np.inf))] += 1
    return counts


def _split_off(members: Indices, count: int, copies: Indices | None) -> tuple[Indices, Indices]:
    """About `count` samples of a pool, and the others; copies stay together, in the place of their first."""
    if copies is None or count in (0, len(members)):
        return members[:count], members[count:]
    units: dict[int, list[int]] = {}
    for i in members.tolist():
        units.setdefault(int(copies[i]), []).append(i)
    if len(units) in (1, len(members)):
        return members[:count], members[count:]
    taken: list[int] = []
    rest: list[int] = []
    for unit in units.values():
        fits = len(taken) + len(unit) <= count or (not taken and not rest)
        (taken if fits else rest).extend(unit)
    return np.array(taken, dtype=np.int64), np.array(rest, dtype=np.int64)


def reunite(drawn: Drawn, copies: Copies, labels: Indices) -> None:
    """Put copies with different labels, which lie in pools of their own, into one part after the fact.

    They go to the part that was drawn first, unless another part would lose its last sample of a class.
    """
    part_of = np.full(len(labels), -1)
    for number, indices in enumerate(drawn.values()):
        part_of[indices] = number
    for members in copies.clusters:
        members = members[part_of[members] >= 0]
        if len(np.unique(labels[members])) < 2:
            continue
        for i in members[part_of[members] != part_of[members].min(initial=len(drawn))]:
            if ((part_of == part_of[i]) & (labels == labels[i])).sum() > 1:
                part_of[i] = part_of[members].min()
    for number, part in enumerate(drawn):
        drawn[part] = np.flatnonzero(part_of == number)
