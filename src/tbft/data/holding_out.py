"""What is held out of the training samples to decide acceptance, by default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tbft.data.amounts import Amount
from tbft.data.drawing import NOTHING, Indices
from tbft.data.manner import Manner

#: Maximum number of samples held out, and their share of the training samples.
MAX_VAL, VAL_SHARE = 500, 0.2
#: Maximum share that whole groups may take by default.
_MAX_SHARE = 0.4
#: One in this many classes may be missing in held-out groups; with more than 20 classes, one in two.
_MAX_MISSING, _MAX_MISSING_OF_MANY = 5, 2


def hold_out(manner: Manner) -> tuple[Indices, Manner]:
    """Positions of about a fifth of the training samples, at most 500, and how they were found.

    By whole groups where that leaves every class in train and most of them in val; otherwise the last of each
    class in the order of time, since neighbors resemble each other. Train keeps a sample of every class.

    Args:
        manner: of the training samples.

    Raises:
        DataError: the groups that the user named cannot be held out.
    """
    spare = np.unique(manner.labels, return_counts=True)[1] - 1
    count = min(MAX_VAL, round(VAL_SHARE * len(manner)), int(spare.sum()))
    if count == 0:
        return NOTHING, manner
    asked = {"val": Amount(count=count), "train": Amount()}
    found, manner = manner.try_groups(lambda tried: _whole_groups(tried, asked), "val is")
    return replace(manner, keep=1).draw(asked)["val"] if found is None else found, manner


def _whole_groups(manner: Manner, asked: dict[str, Amount]) -> Indices | None:
    """Positions of val if that is whole groups, or None where these are too large or leave out classes."""
    assert manner.groups is not None
    if len(manner.groups.names) + bool(manner.groups.unknown_count) < 2:
        return None
    drawn = manner.draw(asked)
    val, classes = drawn["val"], len(np.unique(manner.labels))
    if len(np.unique(manner.labels[drawn["train"]])) < classes:
        return None
    most = len(manner) if manner.is_asked else max(_MAX_SHARE * len(manner), 1)
    allowed = classes // (_MAX_MISSING_OF_MANY if classes > 20 else _MAX_MISSING)
    missing = classes - len(np.unique(manner.labels[val]))
    return val if len(val) <= most and (manner.is_asked or missing <= allowed) else None
