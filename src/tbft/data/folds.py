"""Folds of the training samples: each is judged by a model tuned on the others, to waste no label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tbft.data.drawing import Indices, deal
from tbft.data.holding_out import MAX_VAL, VAL_SHARE
from tbft.data.manner import Manner

#: With fewer held-out samples than this, acceptance is cross-fitted.
MIN_HELD_OUT = 40
#: Number of folds. More would judge models closer to the final one, at the cost of more runs.
FOLDS = 4
#: The fold of samples that are always trained on and never judged.
NEVER = -1


def is_small(count: int, min_val: int) -> bool:
    """Whether the default val part of `count` training samples would be smaller than `min_val`."""
    return count > 1 and min(MAX_VAL, round(VAL_SHARE * count)) < min_val


def draw_folds(manner: Manner, count: int = FOLDS) -> tuple[Indices, Manner]:
    """The fold of each sample, and how the folds were drawn.

    By whole groups where no class is in one group alone; in an order of time, by stretches of each class;
    otherwise at random. Folds have the classes in the proportions of the whole as far as that is possible.

    Args:
        count: how many folds; fewer where there are fewer samples or groups.

    Returns:
        int64 (n,) from 0; NEVER for samples that are only trained on, as their group is not known.

    Raises:
        DataError: the groups that the user named cannot be folds.
    """
    count = min(count, len(manner))
    found, manner = manner.try_groups(lambda tried: _whole_groups(tried, count), "the folds are")
    if found is not None:
        return found, manner
    pools = manner.pools()
    folds = deal(pools, len(manner), count)
    if manner.ranks is not None:
        return folds, replace(manner, order=f"stretches of {manner.order}")
    return folds if manner.copies is None else folds[manner.copies.first], manner


def folds_of(manner: Manner, count: int, in_order: bool = False) -> Indices:
    """The fold of each sample as in :func:`draw_folds`, to compare models instead of judging the final one.

    Where the groups that the user named cannot be folds, the order of time is taken.

    Args:
        in_order: where neither groups nor time are known, take stretches in the order of the set, which is
            often time: neighbors are alike, so that a fold drawn at random would be too easy.
    """
    if in_order and manner.groups is None and manner.ranks is None:
        manner = manner.in_time()
    return draw_folds(replace(manner, is_asked=False), count)[0]


def _whole_groups(manner: Manner, count: int) -> Indices | None:
    """The folds of whole groups, the largest first into the smallest fold; None if one has a whole class."""
    groups, labels = manner.groups, manner.labels
    assert groups is not None
    if len(groups.names) < 2:
        return None
    count = min(count, len(groups.names))
    classes = np.unique(labels, return_inverse=True)[1]
    table = np.zeros((len(groups.names) + 1, int(classes.max()) + 1))
    np.add.at(table, (groups.codes, classes), 1)
    fold_of = np.full(len(groups.names) + 1, NEVER)  # the last one is not known
    held = np.zeros((count, table.shape[1]))
    for g in np.argsort(-table[:-1].sum(1), kind="stable"):
        # The fold with the fewest samples of these classes, then with the fewest of all.
        fold_of[g] = np.lexsort((held.sum(1), held @ table[g]))[0]
        held[fold_of[g]] += table[g]
    folds = fold_of[groups.codes]
    lone = any(len(np.setdiff1d(labels[folds == k], labels[folds != k])) for k in range(folds.max() + 1))
    return None if lone and not manner.is_asked else folds
