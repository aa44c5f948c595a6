"""How samples are assigned to parts and folds: as a user says, or by what is known of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from tbft.data.amounts import Amount, SplitBy
from tbft.data.columns import Groups, find_groups
from tbft.data.copies import Copies, first_copies
from tbft.data.drawing import Drawn, Indices, Pool, draw, pools_in_time, random_pools, reunite
from tbft.data.grouping import draw_groups, joined
from tbft.data.samples import Samples
from tbft.data.times import Order, find_order
from tbft.errors import DataError


@dataclass(frozen=True, eq=False)
class Manner:
    """How the samples of one set are assigned, with everything that a draw has to know about them.

    Attributes:
        name: of the set, for messages.
        labels: the class of each sample (n,).
        class_names: what the labels mean.
        time: the order in which the samples were taken, as far as it is known.
        known: attributes that are groups, the widest first.
        group_by: the attribute no group of which may lie in two parts.
        groups: those; or, in an order of time, what is taken in order each by itself.
        ranks: position of each sample in time; None: parts are drawn at random.
        order: what the order is, in words.
        copies: samples with the same input; None where there is none.
        keep: samples of each class that are kept for train.
        is_asked: the user named the groups.
        is_random: the user said that time plays no role.
        notes: what was assumed.
    """

    name: str
    labels: Indices
    class_names: tuple[str, ...]
    time: Order
    known: Mapping[str, Groups]
    seed: int
    group_by: str | None = None
    groups: Groups | None = None
    ranks: Indices | None = None
    order: str = ""
    copies: Copies | None = None
    keep: int = 0
    is_asked: bool = False
    is_random: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Indices) -> Manner:
        """The same for some of the samples."""
        known = {key: groups.subset(indices) for key, groups in self.known.items()}
        return replace(
            self,
            labels=self.labels[indices],
            time=replace(self.time, ranks=self.time.ranks[indices]),
            known={key: groups for key, groups in known.items() if 1 < len(groups.names) < len(indices)},
            groups=None if self.groups is None else self.groups.subset(indices),
            ranks=None if self.ranks is None else self.ranks[indices],
            copies=None if self.copies is None else self.copies.subset(indices),
        )

    @property
    def words(self) -> str:
        """In words, after "held out"."""
        if self.ranks is not None:
            return f"the last of each class in the order of {self.order}"
        if self.groups is not None:
            return f"by {self.group_by}"
        return self.at_random

    @property
    def at_random(self) -> str:
        """Drawn at random, in words; targets have no classes."""
        return "at random, stratified by class" if len(np.unique(self.labels)) > 1 else "at random"

    def by(self, key: str, part_count: int) -> Manner:
        """By the groups of an attribute; those that share a copy are one where enough remain."""
        groups, notes = self.known[key], self.notes
        if groups.unknown_count:
            notes += (
                f"{groups.unknown_count:,} of {len(self):,} samples have no {key}: they count as one group, "
                "which is only trained on",
            )
        if self.copies is not None:
            groups = joined(groups, self.copies, part_count)
        return replace(self, group_by=key, groups=groups, notes=notes)

    def in_time(self) -> Manner:
        """In the order of time; groups then lie in all parts, and are taken in order each by itself."""
        notes = (*self.notes, *self.time.notes)
        return replace(self, ranks=self.time.ranks, order=self.time.words, group_by=None, notes=notes)

    def try_groups(self, find: FindGroups, what: str) -> tuple[Indices | None, Manner]:
        """What `find` makes of whole groups: of these or, if the user named none, of other attributes'.

        Args:
            find: finds nothing where groups are too few or too large.
            what: what is found, for notes.

        Returns:
            the result and the groups of which it is made; None and the order of time in each group where
            nothing is found. None and this where there are no groups, or an order is taken anyway.

        Raises:
            DataError: nothing is found, and the user named the groups.
        """
        if self.ranks is not None or self.groups is None:
            return None, self
        others = () if self.is_asked else (key for key in self.known if key != self.group_by)
        for tried in chain([self], (replace(self, notes=()).by(key, 2) for key in others)):
            if (found := find(tried)) is not None:
                return found, tried
        if self.is_asked:
            raise DataError(
                f"{self.name}: no group of {self.group_by} can be held out as val part and leave "
                "every class in train; give --val 0, samples of their own with --val, or another --group-by"
            )
        note = (
            f"{what} not made of whole groups of {self.group_by}, which are too few or too large to leave "
            "every class in train and most in val: training samples next to those of val may resemble "
            "them (--group-by KEY or --val 0 changes that)"
        )
        timed = self.in_time()
        return None, replace(timed, notes=(*timed.notes, note))

    def pools(self) -> list[Pool]:
        """The samples of each class in the order in which they are drawn, in time or at random."""
        if self.ranks is None:
            first = None if self.copies is None else self.copies.first
            return random_pools(self.labels, np.random.default_rng(self.seed), first)
        codes = None if self.groups is None else self.groups.codes
        pools = pools_in_time(self.labels, codes, self.ranks)
        if 2 * len(pools) > len(self):  # a sample or so each: only the class counts
            pools = pools_in_time(self.labels, None, self.ranks)
        return pools

    def draw(self, asked: Mapping[str, Amount]) -> Drawn:
        """Positions of each part.

        Raises:
            DataError: the amounts exceed the samples or the groups.
        """
        if self.ranks is not None:
            return self._drawn_in_time(asked)
        if self.groups is not None:
            generator, name = np.random.default_rng(self.seed), f"{self.name}, by {self.group_by}"
            return draw_groups(self.labels, self.groups, asked, generator, name)
        drawn = draw(self.pools(), asked, self.name, self.keep, self.class_names)
        if self.copies is not None:
            reunite(drawn, self.copies, self.labels)
        return drawn

    def _drawn_in_time(self, asked: Mapping[str, Amount]) -> Drawn:
        """Train from the beginning of each class in each group, test from the end, val next to test."""
        pools = self.pools()
        if next(iter(asked)) == "train":
            return draw(pools, asked, self.name, self.keep, self.class_names)
        late = {part: amount for part, amount in asked.items() if part != "train"}
        backwards = [replace(p, members=p.members[::-1]) for p in pools]
        drawn = draw(backwards, late, self.name, self.keep, self.class_names)
        taken = np.concatenate(list(drawn.values()))
        left = [replace(p, members=p.members[~np.isin(p.members, taken)]) for p in pools]
        train = asked["train"]
        if train.fraction is not None:
            train = replace(train, fraction=None, count=train.of(len(self)))
        left = [p for p in left if len(p.members)]
        return {**drawn, **draw(left, {"train": train}, self.name, 0, self.class_names)}


#: Finds positions or folds made of whole groups.
FindGroups = Callable[[Manner], Indices | None]


def find_manner(samples: Samples, asked: Mapping[str, Amount], by: SplitBy) -> Manner:
    """Settle groups and order, by the names of attributes where the user gives none.

    Raises:
        DataError: an attribute that is not there.
    """
    copies = Copies.of(first_copies(samples))
    known, notes = find_groups(samples, by.group_by)
    is_ordered = by.order not in (None, "none") or any(amount.first for amount in asked.values())
    manner = Manner(
        samples.name,
        samples.labels,
        samples.class_names,
        find_order(samples, by.order, is_ordered),
        known,
        by.seed,
        copies=copies,
        keep=int(by.keep_classes),
        is_asked=by.group_by not in (None, "none"),
        is_random=by.order == "none",
        notes=notes,
    )
    if known:
        count = sum(not amount.is_nothing for amount in asked.values())
        enough = (key for key, groups in known.items() if len(groups.names) >= count)
        manner = manner.by(next(enough, next(iter(known))), count)
    if is_ordered:
        return manner.in_time()
    if manner.groups is not None or by.order is not None or by.group_by is not None:
        return manner
    return _by_default(manner, is_window=samples.inputs.ndim == 3)


def _by_default(manner: Manner, is_window: bool) -> Manner:
    """By default, without groups: in time if an attribute gives it, else at random."""
    note = "samples close in time resemble each other, so none were drawn at random; --order none does that"
    if manner.time.is_known:
        manner = manner.in_time()
    elif is_window:
        note = (
            "samples were drawn at random: if they are windows cut from longer recordings, neighbors lie in "
            "two parts; --order file, or an attribute for --group-by, avoids that (--order none: they are a "
            "random draw)"
        )
    else:
        return manner
    return replace(manner, notes=(*manner.notes, note))
