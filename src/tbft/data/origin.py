"""How labels came about: they tell less of other samples if all come from one stretch of time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tbft.data.columns import Groups
from tbft.data.manner import Manner
from tbft.data.samples import Samples
from tbft.data.times import are_from_stretches

#: ``random``: nothing says that neighbors resemble each other; ``stretch``: attributes tell a time or few
#: groups; ``unknown``: windows of a signal, which may be from one recording, and no attribute tells.
Origin = Literal["random", "unknown", "stretch"]

#: Groups in which each class has to lie, in the mean, so that they are not a few stretches.
MIN_GROUPS = 5


def origin_of(samples: Samples, manner: Manner | None = None) -> Origin:
    """How samples came about, by their attributes and their shape.

    Args:
        manner: their groups and order, where somebody said or found these.
    """
    if manner is not None:
        if manner.is_random or (manner.groups is not None and _are_many(manner.groups, samples.labels)):
            return "random"
        if manner.ranks is not None:
            return "stretch"
    if are_from_stretches(samples):
        return "stretch"
    return "unknown" if samples.inputs.ndim == 3 else "random"


def _are_many(groups: Groups, labels: npt.NDArray[np.int64]) -> bool:
    known = groups.codes < len(groups.names)
    pairs = np.unique(np.stack([groups.codes[known], labels[known]]), axis=1).shape[1]
    return pairs >= MIN_GROUPS * len(np.unique(labels))
