"""Trials of options on the user's own labels, and what they say of other samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.blocks.arm import Arm
from tbft.choosing.label_forecast import Seen
from tbft.data.origin import Origin
from tbft.verification.pairs import ORIGIN_SPREADS, gain_error

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

#: How far to go from the base's weights to the tuned ones, where that is tried.
STRENGTHS = (0.3, 0.5, 0.7, 1.0)
#: Folds for heads in closed form, which cost next to nothing. With more, classes are too uneven in the rest.
SOLVED_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Trial:
    """How an option did on labels that it was not tuned on.

    Attributes:
        strength: see :class:`tbft.plan.Recipe`.
        rows: (m,) positions of the samples on which it was tried.
        correct, base_correct: (m,) whether the tuned, and the base model are right.
        origin: how the samples came about, which tells how much gains on folds and on others differ.
    """

    option: str
    strength: float
    rows: Labels
    correct: Bools
    base_correct: Bools
    origin: Origin = "random"

    @property
    def gain(self) -> float:
        """Accuracy minus the base's on the same samples."""
        return float(self.correct.mean() - self.base_correct.mean())

    @property
    def noise(self) -> float:
        """Standard error of the gain on these folds."""
        return self._error(0.0)

    @property
    def error(self) -> float:
        """Standard error of the gain on other samples."""
        return self._error(ORIGIN_SPREADS[self.origin])

    def _error(self, spread: float) -> float:
        fixed, regressed = (
            (self.correct & ~self.base_correct).sum(),
            (self.base_correct & ~self.correct).sum(),
        )
        return gain_error(int(fixed), int(regressed), len(self.rows), spread)


@dataclass(frozen=True, eq=False)
class Trials:
    """All trials, and what they cost.

    Attributes:
        fold_count: folds of trained options; heads in closed form have up to two more.
        seen: features and logits of the samples, if they were computed.
    """

    trials: tuple[Trial, ...] = ()
    cpu_seconds: float = 0.0
    fold_count: int = 0
    seen: Seen | None = None

    def of(self, option: str) -> tuple[Trial, ...]:
        """The trials of an option, one for each strength."""
        return tuple(trial for trial in self.trials if trial.option == option)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that were tried, in the order of trial."""
        return tuple(dict.fromkeys(trial.option for trial in self.trials))


def strengths_of(arm: Arm, adapts: bool) -> tuple[float, ...]:
    """The strengths at which an arm is tried: where it changes weights, and not only with its statistics."""
    return STRENGTHS if arm.trains or (arm.solves and not adapts) else (1.0,)
