"""How samples are assigned to parts: the groups, the order of time and the copies that a split respects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tbft.data.amounts import Amount
from tbft.data.columns import Groups, group_keys, group_lookalikes, groups_of
from tbft.data.copies import first_copies
from tbft.data.drawing import Drawn, Indices, draw, pools_in_time, random_pools, reunite
from tbft.data.grouping import draw_groups, joined
from tbft.data.samples import Samples
from tbft.data.times import order_keys, positions_in_time
from tbft.errors import DataError, unknown


@dataclass(frozen=True)
class SplitBy:
    """How samples are assigned to parts.

    Attributes:
        group_by: an attribute; ``"none"``; None: one that is a group by its name, if there is any.
        order: attributes joined by commas, by which train gets the first samples of each class and test the
            last; ``"file"``: the order of the set; ``"none"``: at random; None: found by name where that is
            needed, for amounts such as ``first:20%`` and for windows of which only the time is known.
        keep_classes: no other part takes the last sample of a class from train.
        min_val: a default val part of fewer samples is not held out; folds of train are drawn instead.
    """

    seed: int = 0
    group_by: str | None = None
    order: str | None = None
    keep_classes: bool = True
    min_val: int = 0


@dataclass(frozen=True, eq=False)
class Manner:
    """The same, settled for one set.

    Attributes:
        group_by: the attribute no group of which may lie in two parts.
        groups: those; or, in an order of time, what is taken in order each by itself.
        ranks: position of each sample in time; None: parts are drawn at random.
        order: what the order is, in words.
        copies: for each sample the first with the same input; None where there is no copy.
        keep: samples of each class that are kept for train.
        is_asked: somebody named the groups.
        notes: what was assumed.
    """

    seed: int
    group_by: str | None = None
    groups: Groups | None = None
    ranks: Indices | None = None
    order: str = ""
    copies: Indices | None = None
    keep: int = 0
    is_asked: bool = False
    notes: tuple[str, ...] = ()

    def subset(self, indices: Indices) -> Manner:
        """The same for some of the samples."""
        copies = self.copies
        if copies is not None:
            _, first, number = np.unique(copies[indices], return_index=True, return_inverse=True)
            copies = first[number]
        groups = None if self.groups is None else self.groups.subset(indices)
        ranks = None if self.ranks is None else self.ranks[indices]
        return replace(self, copies=copies, groups=groups, ranks=ranks)

    @property
    def words(self) -> str:
        """In words, after "held out"."""
        if self.ranks is not None:
            return f"the last of each class in the order of {self.order}"
        if self.groups is not None:
            return f"by {self.group_by}"
        return "at random, stratified by class"


def find_manner(samples: Samples, asked: Mapping[str, Amount], by: SplitBy) -> Manner:
    """Settle groups and order where nobody says them, by the names of the attributes.

    Raises:
        DataError: an attribute that is not there.
    """
    copies = first_copies(samples)
    manner = Manner(
        by.seed,
        copies=copies if (copies != np.arange(len(copies))).any() else None,
        keep=int(by.keep_classes),
    )
    manner = _grouped(samples, manner, by, sum(not amount.is_nothing for amount in asked.values()))
    is_ordered = by.order not in (None, "none") or any(amount.first for amount in asked.values())
    if is_ordered:
        return in_order_of(samples, manner, by.order)
    if (
        manner.groups is None
        and by.order is None
        and by.group_by is None
        and order_keys(samples, asked=False)
    ):
        manner = in_order_of(samples, manner, None)
        note = (
            "samples close in time resemble each other, so none were drawn at random; --order none does that"
        )
        return replace(manner, notes=(*manner.notes, note))
    if manner.groups is None and by.group_by is None and by.order is None and samples.inputs.ndim == 3:
        note = (
            "samples were drawn at random: if they are windows cut from longer recordings, neighbors lie in "
            "two parts; --order file, or an attribute for --group-by, avoids that"
        )
        return replace(manner, notes=(*manner.notes, note))
    return manner


def _grouped(samples: Samples, manner: Manner, by: SplitBy, part_count: int) -> Manner:
    if by.group_by == "none":
        return manner
    if by.group_by is not None and by.group_by not in samples.attributes:
        raise DataError(
            f"{samples.name}: cannot split by {by.group_by!r}: "
            f"{unknown('attribute', by.group_by, samples.attributes)}"
        )
    manner = replace(manner, is_asked=by.group_by is not None)
    found = [by.group_by] if by.group_by is not None else group_keys(samples)
    if not found:
        return replace(manner, notes=(*manner.notes, *_lookalikes(samples)))
    enough = (k for k in found if len(groups_of(samples.attributes[k]).names) >= part_count)
    return by_groups(samples, manner, next(enough, found[0]), part_count)


def by_groups(samples: Samples, manner: Manner, key: str, part_count: int) -> Manner:
    """The manner with the groups of an attribute; those that share a copy are one where enough remain."""
    groups = groups_of(samples.attributes[key])
    notes = manner.notes
    if groups.unknown_count:
        notes += (
            f"{groups.unknown_count:,} of {len(samples):,} samples have no {key}: they count as one group, "
            "which is only trained on",
        )
    if manner.copies is not None:
        groups = joined(groups, manner.copies, part_count)
    return replace(manner, group_by=key, groups=groups, notes=notes)


def _lookalikes(samples: Samples) -> list[str]:
    found = [f"{key} ({count} values)" for key, count in group_lookalikes(samples).items()]
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [
        f"attributes that may be groups and were not used as such: {', '.join(found[:3])}{more}; "
        "--group-by KEY keeps the samples of a group in one part"
    ]


def in_order_of(samples: Samples, manner: Manner, order: str | None) -> Manner:
    """The manner in an order of time: named, found by name, or that of the set."""
    if order in (None, "file", "none"):
        keys = [] if order == "file" else order_keys(samples, asked=True)
    else:
        keys = [key.strip() for key in order.split(",")]
    said = ", ".join(keys) if keys else "the set"
    notes = manner.notes
    if not keys and order != "file":
        notes += (
            "no attribute tells when samples were taken, so their order in the set counts; "
            "--order KEY names one",
        )
    ranks = positions_in_time(samples, keys)
    return replace(manner, ranks=ranks, order=said, group_by=None, notes=notes)  # groups lie in all parts


def draw_parts(samples: Samples, asked: Mapping[str, Amount], manner: Manner) -> Drawn:
    """Positions of each part.

    Raises:
        DataError: the amounts exceed the samples or the groups.
    """
    generator = np.random.default_rng(manner.seed)
    if manner.ranks is not None:
        return _in_time(samples, asked, manner)
    if manner.groups is not None:
        name = f"{samples.name}, by {manner.group_by}"
        return draw_groups(samples.labels, manner.groups, asked, generator, name)
    pools = random_pools(samples.labels, generator, manner.copies)
    drawn = draw(pools, asked, samples.name, manner.keep, samples.class_names)
    if manner.copies is not None:
        reunite(drawn, manner.copies, samples.labels)
    return drawn


def _in_time(samples: Samples, asked: Mapping[str, Amount], manner: Manner) -> Drawn:
    """Train from the beginning of each class in each group, test from the end, val next to test."""
    assert manner.ranks is not None
    codes = None if manner.groups is None else manner.groups.codes
    pools = pools_in_time(samples.labels, codes, manner.ranks)
    if 2 * len(pools) > len(samples):  # a sample or so each: only the class counts
        pools = pools_in_time(samples.labels, None, manner.ranks)
    if next(iter(asked)) == "train":
        return draw(pools, asked, samples.name, manner.keep, samples.class_names)
    late = {part: amount for part, amount in asked.items() if part != "train"}
    backwards = [replace(p, members=p.members[::-1]) for p in pools]
    drawn = draw(backwards, late, samples.name, manner.keep, samples.class_names)
    taken = np.concatenate(list(drawn.values()))
    left = [replace(p, members=p.members[~np.isin(p.members, taken)]) for p in pools]
    train = asked["train"]
    if train.fraction is not None:
        train = replace(train, fraction=None, count=train.of(len(samples)))
    left = [p for p in left if len(p.members)]
    return {**drawn, **draw(left, {"train": train}, samples.name, 0, samples.class_names)}
