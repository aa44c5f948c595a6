"""How BatchNorm's running statistics are treated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tbft.errors import PlanError

#: Number of samples that the source statistics count as; Schneider et al. (2020) find 8 to 32 best.
PSEUDO_SAMPLES = 16


@dataclass(frozen=True)
class Statistics:
    """A policy for running means and variances.

    Attributes:
        mode: ``keep`` keeps the source's; ``follow`` lets them follow the target; ``auto`` takes the share of
            the source with the lowest loss on the training samples, found by forward passes.
        source_share: weight of the source statistics in mode ``follow``, 0 to 1; None: depends on the number
            of samples, see :meth:`share`.

    >>> Statistics.of(1.0) == KEEP, Statistics.of("auto").mode, Statistics.of(0.25).share(1000)
    (True, 'auto', 0.25)
    """

    mode: Literal["keep", "follow", "auto"]
    source_share: float | None = None

    @classmethod
    def of(cls, value: Statistics | float | str | None) -> Statistics:
        """A policy from a share (1 keeps the source's), ``auto``, ``keep``, or None (depends on the count).

        Raises:
            PlanError: another value.
        """
        if isinstance(value, Statistics):
            return value
        if value == "auto":
            return AUTO
        if value == "keep" or (isinstance(value, (int, float)) and value == 1):
            return KEEP
        if value is None or (isinstance(value, (int, float)) and 0 <= value < 1):
            return cls("follow", None if value is None else float(value))
        raise PlanError(f"the source share is a fraction from 0 to 1, or auto, not {value}")

    @property
    def adapts(self) -> bool:
        """Whether statistics follow the target."""
        return self.mode != "keep"

    def share(self, count: int) -> float:
        """Weight of the source statistics if the target's come from `count` samples.

        Without a given share, the source counts as :data:`PSEUDO_SAMPLES` samples (Schneider et al. 2020,
        equation 3).
        """
        if self.mode == "keep":
            return 1.0
        return PSEUDO_SAMPLES / (PSEUDO_SAMPLES + count) if self.source_share is None else self.source_share

    def to_json(self) -> float | str | None:
        """The value that :meth:`of` takes."""
        return "auto" if self.mode == "auto" else 1.0 if self.mode == "keep" else self.source_share


KEEP = Statistics("keep", 1.0)
FOLLOW = Statistics("follow")
AUTO = Statistics("auto")
