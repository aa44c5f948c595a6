"""The result of adding classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tbft.base import Base
from tbft.metering import Measurement
from tbft.patches import Patch


@dataclass(frozen=True, eq=False)
class NewClasses:
    """The result of adding classes.

    Attributes:
        classes: names of the new classes, whose outputs come after the old ones.
        patch: the larger head; empty if it was rejected.
        new_accuracy: accuracy on samples of new classes, each judged by rows that were learned without it.
        new_accuracies: the same for each new class.
        old_before, old_after: accuracy on samples of old classes, likewise.
        old_count, new_count: number of samples on which these were measured.
        own_old_count: how many of the old ones are the user's; the others are features in the source card.
    """

    base: Base
    classes: tuple[str, ...]
    patch: Patch
    new_accuracy: float
    new_accuracies: Mapping[str, float]
    new_count: int
    old_before: float
    old_after: float
    old_count: int
    own_old_count: int
    measurement: Measurement
    notes: tuple[str, ...]

    @property
    def status(self) -> Literal["patched", "rejected"]:
        """``patched``, or ``rejected`` if old classes lost too much or new ones were not learned."""
        return "patched" if self.patch.tensors else "rejected"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        left_out = ("base", "patch", "measurement", "notes")
        return {
            "status": self.status,
            **{name: value for name, value in vars(self).items() if name not in left_out},
            "patch_bytes": len(self.patch.to_bytes()),
            **asdict(self.measurement),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        each = ", ".join(f"{name} {100 * a:.0f} %" for name, a in self.new_accuracies.items())
        counts = f"{self.own_old_count:,} samples and {self.old_count - self.own_old_count:,} in the card"
        lines = [
            f"new classes  {100 * self.new_accuracy:.1f} % of {self.new_count:,} samples: {each}",
            f"old classes  {100 * self.old_before:.1f} % -> {100 * self.old_after:.1f} % of {counts}",
        ]
        size = f"{len(self.patch.to_bytes()):,} bytes" if self.status == "patched" else "none: rejected"
        lines.append(f"patch        {size}, {self.measurement.cpu_seconds:.2f} s of processor time")
        return "\n".join([*lines, *(f"note         {note}" for note in self.notes)])
