"""Parts by whole groups: close to the amounts, and with every class in every part where possible."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tbft.data.amounts import Amount
from tbft.data.columns import Groups
from tbft.data.copies import Copies
from tbft.data.covering import Target, covering
from tbft.data.drawing import NOTHING, Drawn, Indices, Pool, draw, random_pools
from tbft.errors import DataError

#: Groups times classes up to which the classes of groups are counted.
_MAX_CELLS = 4_000_000


def draw_groups(
    labels: Indices, groups: Groups, asked: Mapping[str, Amount], generator: np.random.Generator, name: str
) -> Drawn:
    """Positions of each part, in the order of `asked`; no group lies in two parts.

    Samples whose group is not known are only trained on. Where whole groups would leave a class out of
    train though other groups have it, train is drawn from all groups that no other part has.

    Raises:
        DataError: more parts than groups, more samples than there are, or a class that train would lack.
    """
    members, counts = _members(groups), _class_counts(labels, groups)
    sizes = np.array([len(m) for m in members])
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
        raise DataError(f"{name}: {total} samples are requested in all, but it has {len(labels)}")
    drawn: Drawn = dict.fromkeys(asked, NOTHING)
    for part in parts:
        later = len(parts) - 1 - parts.index(part)
        if part == "train" and unknown:
            order, unknown = order + unknown, []
        chosen = _nearest(order, sizes, wanted[part], max(later - len(unknown), 0))
        if counts is not None and not asked[part].is_rest:
            # Nothing may be missing in train, which takes what is left, or what comes after it does.
            weights = (100, 10 if later else 0) if part == "train" else (10, 100)
            chosen = covering(counts, order, chosen, Target(wanted[part], *weights), generator)
        drawn[part] = np.concatenate([members[g] for g in chosen])
        if part == "train" and not later:
            left = np.concatenate([members[g] for g in order])
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


def _members(groups: Groups) -> list[Indices]:
    """Positions of the samples of each group, the group that is not known last."""
    order = np.argsort(groups.codes, kind="stable")
    return np.split(order, np.searchsorted(groups.codes[order], np.arange(1, len(groups.names) + 1)))


def _class_counts(labels: Indices, groups: Groups) -> Indices | None:
    """Samples of each class in each group (groups, classes); None where that would be too large."""
    classes, codes = np.unique(labels, return_inverse=True)
    shape = (len(groups.names) + 1, len(classes))
    if shape[0] * shape[1] > _MAX_CELLS:
        return None
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (groups.codes, codes), 1)
    return counts


def _nearest(order: list[int], sizes: Indices, wanted: int, later: int) -> list[int]:
    """The first groups, as many as come closest to what is wanted; some are left for later parts."""
    chosen: list[int] = []
    size = 0
    for g in order[: len(order) - later]:
        if chosen and abs(size + sizes[g] - wanted) >= abs(size - wanted):
            break
        chosen.append(g)
        size += int(sizes[g])
    return chosen


def joined(groups: Groups, copies: Copies, part_count: int) -> Groups:
    """Groups of which some are one because they share a copy of an input.

    The groups themselves where too few would be left, or one would hold most samples.
    """
    parent = list(range(len(groups.names)))

    def root(g: int) -> int:
        while parent[g] != g:
            parent[g] = g = parent[parent[g]]
        return g

    for members in copies.clusters:
        known = [g for g in np.unique(groups.codes[members]).tolist() if g < len(parent)]
        for g in known[1:]:
            parent[root(g)] = root(known[0])
    roots = np.array([root(g) for g in range(len(parent))] + [len(parent)])
    found = Groups(roots[groups.codes], groups.names).subset(np.arange(len(groups.codes)))
    largest = np.bincount(found.codes).max(initial=0)
    before = np.bincount(groups.codes).max(initial=0)
    is_fine = len(found.names) > part_count and largest <= max(before, len(groups.codes) // 2)
    return found if is_fine else groups
