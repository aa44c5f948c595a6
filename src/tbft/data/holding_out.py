"""What is held out of the training samples to decide acceptance, where nobody says how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tbft.data.amounts import Amount
from tbft.data.columns import group_keys
from tbft.data.drawing import NOTHING, Indices
from tbft.data.manner import Manner, by_groups, draw_parts, in_order_of
from tbft.data.samples import Samples
from tbft.errors import DataError

#: Samples that are held out at most, and their share of those to train on.
MAX_VAL, VAL_SHARE = 500, 0.2
#: More than this share is not held out unasked: then groups are too large for one to be.
_MAX_SHARE = 0.4
#: One in so many classes may be missing in what is held out by groups; of more than 20, one in two.
_MAX_MISSING, _MAX_MISSING_OF_MANY = 5, 2


def hold_out(samples: Samples, train: Indices, manner: Manner) -> tuple[Indices, Manner]:
    """Positions of about a fifth of the training samples, at most 500, and how they were found.

    By whole groups where that leaves every class in train and most of them in val; otherwise the last of each
    class in the order of time, since neighbors resemble each other. Train keeps a sample of every class.

    Raises:
        DataError: the groups that somebody named cannot be held out.
    """
    own, manner = samples.subset(train), manner.subset(train)
    spare = np.unique(own.labels, return_counts=True)[1] - 1
    count = min(MAX_VAL, round(VAL_SHARE * len(own)), int(spare.sum()))
    if count == 0:
        return NOTHING, manner
    asked = {"val": Amount(count=count), "train": Amount()}
    if manner.ranks is None and manner.groups is not None:
        for tried in candidates(own, manner):
            found = _whole_groups(own, asked, tried)
            if found is not None:
                return train[found], tried
        manner = without_groups(own, manner, "val is")
    found = draw_parts(own, asked, replace(manner, keep=1))["val"]
    return train[found], manner


def candidates(own: Samples, manner: Manner) -> Iterator[Manner]:
    """The manner, and the same with other attributes that are groups; narrower ones have more of them."""
    yield manner
    if not manner.is_asked:
        for key in group_keys(own):
            if key != manner.group_by:
                yield by_groups(own, replace(manner, notes=()), key, 2)


def _whole_groups(own: Samples, asked: dict[str, Amount], manner: Manner) -> Indices | None:
    """Positions of val if that is whole groups, or None where these are too large or leave out classes."""
    assert manner.groups is not None
    if len(manner.groups.names) + bool(manner.groups.unknown_count) < 2:
        return None
    drawn = draw_parts(own, asked, manner)
    val, classes = drawn["val"], len(np.unique(own.labels))
    if len(np.unique(own.labels[drawn["train"]])) < classes:
        return None
    most = len(own) if manner.is_asked else max(_MAX_SHARE * len(own), 1)
    allowed = classes // (_MAX_MISSING_OF_MANY if classes > 20 else _MAX_MISSING)
    missing = classes - len(np.unique(own.labels[val]))
    return val if len(val) <= most and (manner.is_asked or missing <= allowed) else None


def without_groups(own: Samples, manner: Manner, what: str) -> Manner:
    """The order of time in each group instead; `what` is not made of whole groups."""
    if manner.is_asked:
        raise DataError(
            f"{own.name}: no group of {manner.group_by} can be held out to decide acceptance and leave every "
            "class in train; give --val 0, samples of their own with --val, or another --group-by"
        )
    timed = in_order_of(own, manner, None)
    note = (
        f"{what} not made of whole groups of {manner.group_by}, which are too few or too large to leave "
        "every class in train and most in val: training samples next to those that decide may resemble them "
        "(--group-by KEY or --val 0 changes that)"
    )
    return replace(timed, notes=(*timed.notes, note))
