"""The gains that are expected of an option whatever the level of drift: shares of what the base gets wrong.

They were measured on several families of data and models by ``benchmarks/families_choice.py``, which writes
``gains.json``: one table for a random draw of samples that drifted, one for samples that did not drift, and
one for a first stretch of time, from which less carries over to what comes later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from tbft.choosing.options import Option
from tbft.data.origin import Origin
from tbft.diagnosis.levels import NOT_DIAGNOSED, Diagnosis
from tbft.verification.pairs import ExpectedGain

#: Accuracies of the base at which drift counts as heavy and as mild; in between, gains are interpolated.
HEAVY, MILD = 0.3, 0.8
#: Standard deviation of gains around the expected ones: as a share of the base's errors, for each table, and
#: in addition to that.
TABLE_SPREADS, MIN_SPREAD = {"random": 0.10, "undrifted": 0.10, "stretch": 0.13}, 0.01

#: Role -> strength -> gain as a share of the base's errors under heavy and under mild drift.
Shares = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class Gains:
    """Expected gains, and how much those of a family vary around them.

    Attributes:
        spread: standard deviation as a share of the base's errors.
    """

    shares: Shares
    spread: float

    def of(self, option: Option, strength: float, base: float) -> ExpectedGain:
        """The gain in accuracy that is expected of an option, given the base's accuracy."""
        heavy, mild = self.shares.get(option.role, {}).get(f"{strength:g}", (0.0, 0.0))
        share = min(max((base - HEAVY) / (MILD - HEAVY), 0.0), 1.0)
        return ExpectedGain((heavy + share * (mild - heavy)) * (1 - base), self.spread_at(base))

    def spread_at(self, base: float) -> float:
        """The standard deviation of gains in accuracy."""
        return MIN_SPREAD + self.spread * (1 - base)


@cache
def gains(table: str) -> Gains:
    """``random``, ``undrifted`` or ``stretch``."""
    tables: Mapping[str, Shares] = json.loads(files("tbft.choosing").joinpath("gains.json").read_text())
    return Gains(tables[table], TABLE_SPREADS[table])


def gains_for(diagnosis: Diagnosis, origin: Origin) -> Gains:
    """The gains of families whose labels came about alike, and of which the diagnosis is alike."""
    if origin == "stretch":
        return gains("stretch")
    drifted = bool(diagnosis.levels) or diagnosis.verdict == NOT_DIAGNOSED
    return gains("random" if drifted else "undrifted")
