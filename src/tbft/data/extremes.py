"""What has to be known about arrays to recognize what their values are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Rounding and interpolation may leave values this much outside [0, 1].
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Values:
    """What has to be known about arrays to recognize what their values are.

    Attributes:
        dtype: of the arrays.
        shape: of one sample.
        low, high: extremes over all samples.
        whole: no value lies between whole numbers.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    low: float
    high: float
    whole: bool

    def joined(self, other: Values) -> Values:
        """The same for the samples of both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return replace(self, low=low, high=high, whole=self.whole and other.whole)


def values_of(inputs: Array) -> Values:
    """Of arrays (n, ...) of booleans, numbers or finite floats; of pixels a few do, unless they are dark."""
    kind, shape = inputs.dtype.kind, inputs.shape[1:]
    if inputs.dtype == np.uint8:
        few = float(inputs[:8].max())
        return Values(inputs.dtype, shape, 0.0, few if few > 1 else float(inputs.max()), True)
    low, high = float(inputs.min()), float(inputs.max())
    # Whether floats are whole matters for those that may be pixels alone.
    whole = kind != "f" or (low >= -TOLERANCE and 1 < high <= 255 and _are_whole(inputs))
    return Values(inputs.dtype, shape, low, high, whole)


def _are_whole(inputs: Array) -> bool:
    return bool((np.abs(inputs - np.rint(inputs)) < TOLERANCE).all())
