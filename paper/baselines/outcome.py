"""What a method from another paper returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft import Samples
from tbft.tuning.loop import EpochRecord


@dataclass(frozen=True)
class Outcome:
    """The outcome of a method on one split.

    Attributes:
        accuracy: on `parts.test`, 0 to 1; `details` says if it was evaluated on some of it.
        history: the learning curve; empty without epochs.
        tuned_parameters: scalars that the method trains.
        details: plain values: hyperparameters, what was searched and chosen, the source.
        predicted: predicted class of each evaluated sample, in the order of `parts.test`.
    """

    accuracy: float
    history: tuple[EpochRecord, ...] = ()
    tuned_parameters: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    predicted: tuple[int, ...] = field(default=(), repr=False)


def scored(
    predicted: npt.NDArray[np.int64],
    samples: Samples,
    tuned_parameters: int,
    details: Mapping[str, Any],
    history: tuple[EpochRecord, ...] = (),
) -> Outcome:
    """The outcome of these predictions. This is the only place where labels of the test part are read."""
    accuracy = float((predicted == samples.labels).mean())
    return Outcome(accuracy, history, tuned_parameters, details, tuple(predicted.tolist()))
