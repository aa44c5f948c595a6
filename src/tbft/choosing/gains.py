"""The gains of each option on several families of data and models: their means, and how they go together.

Gains are shares of what the base model gets wrong. Where one option gains more than usual, so do others:
their covariance is that of a few common factors and a part of each option's own. The figures are stored in
``gains.json``; ``benchmarks/families_choice.py --fit`` regenerates it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import sqrt

#: Accuracies of the base at which drift counts as heavy and as mild; in between, gains are interpolated.
HEAVY, MILD = 0.3, 0.8
#: Added to the share that the base gets wrong, as gains vary even where that is next to nothing.
MIN_WRONG = 0.03


@dataclass(frozen=True)
class Gain:
    """The gain of an option at one strength, as a share of the base's errors.

    Attributes:
        heavy, mild: the mean under heavy and under mild drift.
        factors: how it goes with the common factors (independent, of variance 1).
        own: standard deviation of what they leave.
    """

    heavy: float = 0.0
    mild: float = 0.0
    factors: tuple[float, ...] = ()
    own: float = 0.15

    def mean(self, base: float) -> float:
        """The expected gain in accuracy, given the base's accuracy."""
        weight = min(max((base - HEAVY) / (MILD - HEAVY), 0.0), 1.0)
        return (self.heavy + weight * (self.mild - self.heavy)) * (1 - base)

    def spread(self, base: float) -> float:
        """The standard deviation of the gain in accuracy, given the base's accuracy."""
        return self._spread * (1 - base + MIN_WRONG)

    @property
    def correlations(self) -> tuple[float, ...]:
        """The correlation of the gain with each common factor."""
        return tuple(factor / self._spread for factor in self.factors)

    @property
    def _spread(self) -> float:
        return sqrt(sum(factor**2 for factor in self.factors) + self.own**2)


#: Role -> strength, as it is printed by ``:g`` -> gain.
Gains = Mapping[str, Mapping[str, Gain]]


@cache
def fitted_gains() -> Gains:
    """The gains that were fitted on several families."""
    table = json.loads(files("tbft.choosing").joinpath("gains.json").read_text())["gains"]
    return {
        role: {s: Gain(g["heavy"], g["mild"], tuple(g["factors"]), g["own"]) for s, g in strengths.items()}
        for role, strengths in table.items()
    }


def gain_of(role: str, strength: float, table: Gains) -> Gain:
    """The gain of an option with a role; one of which nothing is known is expected to gain nothing."""
    return table.get(role, {}).get(f"{strength:g}", Gain())
