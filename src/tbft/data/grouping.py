"""Parts by whole groups: near to the amounts, and with every class in every part where possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tbft.data.amounts import Amount
from tbft.data.columns import Groups
from tbft.data.copies import clusters
from tbft.data.drawing import NOTHING, Drawn, Indices, Pool, draw, random_pools
from tbft.errors import DataError

Mask = npt.NDArray[np.bool_]

#: Changes that are tried to get every class into a part.
_TRIES = 1500
#: Groups times classes up to which they are.
_MAX_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class _Table:
    """Samples of each class in each group.

    Attributes:
        members: positions of the samples of each group, the group that is not known last.
        counts: (groups, classes).
    """

    members: list[Indices]
    counts: Indices

    def sizes(self) -> Indices:
        return self.counts.sum(1)


def draw_groups(
    labels: Indices, groups: Groups, asked: Mapping[str, Amount], generator: np.random.Generator, name: str
) -> Drawn:
    """Positions of each part, in the order of `asked`; no group lies in two parts.

    Samples of which the group is not known are only trained on. Where whole groups would leave a class out of
    train though other groups have it, its samples are drawn out of all groups that no other part has.

    Raises:
        DataError: more parts than groups, more samples than there are, or a class that train would lack.
    """
    table = _table(labels, groups)
    order = generator.permutation(len(groups.names)).tolist()
    unknown = [len(groups.names)] if groups.unknown_count else []
    parts = [part for part, amount in asked.items() if not amount.is_nothing]
    if len(order) + len(unknown) < len(parts):
        raise DataError(
            f"{name}: {len(order)} groups cannot make {len(parts)} parts that share none; "
            "give more groups, fewer parts, or another --group-by"
        )
    class_count = len(np.unique(labels))
    wanted = {part: amount.of(len(labels), class_count) for part, amount in asked.items()}
    total = sum(wanted[part] for part in parts if not asked[part].is_rest)
    if total > len(labels):
        raise DataError(f"{name}: {total} samples are asked for in all, it has {len(labels)}")
    drawn: Drawn = dict.fromkeys(asked, NOTHING)
    for part in parts:
        later = len(parts) - 1 - parts.index(part)
        if part == "train" and unknown:
            order, unknown = order + unknown, []
        chosen = _nearest(order, table.sizes(), wanted[part], max(later - len(unknown), 0))
        if not asked[part].is_rest:
            # Nothing may be missing in train, which takes what is left, or what comes after it does.
            weights = (100, 10 if later else 0) if part == "train" else (10, 100)
            chosen = _covering(table, order, chosen, _Score(wanted[part], *weights), generator)
        drawn[part] = np.concatenate([table.members[g] for g in chosen])
        if part == "train" and not later:
            left = np.concatenate([table.members[g] for g in order])
            drawn[part] = _out_of_many(labels, drawn[part], left, asked[part], generator)
        order = [g for g in order if g not in set(chosen)]
    return drawn


def _out_of_many(
    labels: Indices, chosen: Indices, left: Indices, amount: Amount, generator: np.random.Generator
) -> Indices:
    """The training samples of whole groups; out of all that are left where those would lack a class."""
    even = amount.per_class is not None or len(np.unique(labels[chosen])) < len(np.unique(labels[left]))
    if amount.is_rest or not even:
        return chosen
    if amount.fraction is not None:
        amount = Amount(count=min(amount.of(len(labels)), len(left)))
    pools = [Pool(p.label, left[p.members]) for p in random_pools(labels[left], generator, None)]
    return draw(pools, {"train": amount}, "the groups that no other part has")["train"]


def _table(labels: Indices, groups: Groups) -> _Table:
    count = len(groups.names) + 1
    order = np.argsort(groups.codes, kind="stable")
    members = np.split(order, np.searchsorted(groups.codes[order], np.arange(1, count)))
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.zeros((count, len(classes)), dtype=np.int64)
    np.add.at(counts, (groups.codes, codes), 1)
    return _Table(members, counts)


def _nearest(order: list[int], sizes: Indices, wanted: int, later: int) -> list[int]:
    """The first groups, as many as come nearest to what is wanted; some are left for later parts."""
    chosen: list[int] = []
    size = 0
    for g in order[: len(order) - later]:
        if chosen and abs(size + sizes[g] - wanted) >= abs(size - wanted):
            break
        chosen.append(g)
        size += int(sizes[g])
    return chosen


def _covering(
    table: _Table, order: list[int], chosen: list[int], score: _Score, generator: np.random.Generator
) -> list[int]:
    """The chosen groups, or others about as large that leave neither them nor the rest without a class."""
    counts = table.counts[order]
    counts = counts[:, counts.sum(0) > 0]
    inside = np.isin(order, chosen)
    score = replace(score, deviation=abs(int(counts[inside].sum()) - score.wanted))
    alone = int(((counts > 0).sum(0) == 1).sum())  # classes of one group cannot be on both sides
    best, good = score(counts, inside), 1 + alone * min(score.part_weight, score.rest_weight)
    if best < good or counts.size > _MAX_CELLS:
        return chosen
    for tried in range(_TRIES):
        if best < good and tried % 100 == 0:
            break
        changed = _changed(counts, inside, generator)
        if changed.any() and not changed.all() and (new := score(counts, changed)) <= best:
            inside, best = changed, new
    return [g for g, taken in zip(order, inside, strict=True) if taken]


@dataclass(frozen=True, eq=False)
class _Score:
    """How far a choice of groups is from what is asked of it; below 1 where no class is missing.

    Attributes:
        wanted: samples of the part.
        part_weight, rest_weight: of a class that is missing in the part, or in the groups left.
        deviation: from `wanted`, in samples, that is allowed anyway.
    """

    wanted: int
    part_weight: int
    rest_weight: int
    deviation: int = 0

    def __call__(self, counts: Indices, inside: Mask) -> float:
        part = counts[inside].sum(0)
        rest = counts.sum(0) - part
        size = int(part.sum())
        largest = int(counts.sum(1).max())
        off = abs(size - self.wanted)
        missing = self.rest_weight * int((rest == 0).sum()) + self.part_weight * int((part == 0).sum())
        uneven = float(np.abs(part / max(size, 1) - (part + rest) / (part + rest).sum()).sum())
        allowed = max(self.deviation, largest // 2)
        return missing + 1000 * max(0, off - allowed) + 0.4 * uneven / 2 + 0.4 * off / (off + largest)


def _changed(counts: Indices, inside: Mask, generator: np.random.Generator) -> Mask:
    """One group moved in or out, or two exchanged; mostly one of a class that is missing on a side."""
    changed = inside.copy()
    lacking = np.flatnonzero(counts[inside].sum(0) == 0), np.flatnonzero(counts[~inside].sum(0) == 0)
    side = int(generator.integers(2))
    candidates = np.flatnonzero(inside == bool(side))
    if len(lacking[side]) and generator.random() < 0.8:
        wanted = int(generator.choice(lacking[side]))
        candidates = candidates[counts[candidates, wanted] > 0]
    others = np.flatnonzero(inside != bool(side))
    if len(candidates):
        changed[generator.choice(candidates)] ^= True
    if len(others) and generator.random() < 0.5:
        changed[generator.choice(others)] ^= True
    return changed


def joined(groups: Groups, copies: Indices, part_count: int) -> Groups:
    """Groups of which some are one because they share a copy of an input.

    The groups themselves where too few would be left, or one would hold most samples.
    """
    parent = list(range(len(groups.names)))

    def root(g: int) -> int:
        while parent[g] != g:
            parent[g] = g = parent[parent[g]]
        return g

    for members in clusters(copies):
        known = [g for g in np.unique(groups.codes[members]).tolist() if g < len(parent)]
        for g in known[1:]:
            parent[root(g)] = root(known[0])
    roots = np.array([root(g) for g in range(len(parent))] + [len(parent)])
    found = Groups(roots[groups.codes], groups.names).subset(np.arange(len(groups.codes)))
    largest = np.bincount(found.codes).max(initial=0)
    before = np.bincount(groups.codes).max(initial=0)
    is_fine = len(found.names) > part_count and largest <= max(before, len(groups.codes) // 2)
    return found if is_fine else groups
