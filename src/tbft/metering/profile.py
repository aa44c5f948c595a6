"""Power models of boards: from processor seconds to joules, where no sensor measures.

A profile was fitted on one board beside a meter (``tbft energy calibrate``) or comes from a published
measurement. Its figures are estimates, and carry its name and its error.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tbft.errors import ProfileError, unknown
from tbft.files import PROFILE, atomic_path
from tbft.json_text import read_json
from tbft.metering.sensor import SCOPES
from tbft.schema import build

VARIABLE = "TBFT_PROFILE"


@dataclass(frozen=True)
class Profile:
    """A board's fitted power model: watts = idle_watts + watts_per_core * busy cores.

    Attributes:
        name, board: of the profile; of what it was fitted on, with its revision.
        date: of the measurement, ISO 8601 as far as known.
        meter: the instrument used.
        idle_watts: None where only the power above idle was published.
        watts_per_core: above idle, for one busy core.
        joules_per_gflop: above idle, for convolutions; None where not measured.
        relative_error: of an estimate of power, one standard deviation; None where none was published.
        scope: what is covered, one of ``tbft.metering.sensor.SCOPES``.
        source: where the numbers come from, precisely.
        fit: the points behind the fit, as :func:`tbft.metering.calibration.fit` gives them.
    """

    name: str
    board: str
    date: str
    meter: str
    idle_watts: float | None
    watts_per_core: float
    joules_per_gflop: float | None
    relative_error: float | None
    scope: str
    source: str
    fit: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("idle_watts", "watts_per_core", "joules_per_gflop", "relative_error"):
            value = getattr(self, name)
            if value is None and name != "watts_per_core":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value >= 0):
                raise ProfileError(f"profile {self.name!r}: {name} has to be a number from 0, not {value!r}")
        for name in ("name", "board", "date", "meter", "scope", "source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ProfileError(f"profile {self.name!r}: {name} is missing")
        if self.scope not in SCOPES:
            raise ProfileError(f"profile {self.name!r}: " + unknown("scope", self.scope, SCOPES))

    def joules(self, wall_seconds: float, cpu_seconds: float) -> float:
        """Gross energy: of the board idling for `wall_seconds`, and of `cpu_seconds` of work on top.

        Raises:
            ProfileError: the profile has no idle power.
        """
        if self.idle_watts is None:
            raise ProfileError(
                f"profile {self.name!r} has only the power above idle: no gross figure can be given"
            )
        return self.idle_watts * wall_seconds + self.net_joules(cpu_seconds)

    def net_joules(self, cpu_seconds: float) -> float:
        """Energy above idle for this much processor time."""
        return self.watts_per_core * cpu_seconds

    def estimate(self, wall_seconds: float, cpu_seconds: float) -> float:
        """Gross energy where the profile knows the board's idle power, else net."""
        if self.idle_watts is None:
            return self.net_joules(cpu_seconds)
        return self.joules(wall_seconds, cpu_seconds)

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, atomically."""
        with atomic_path(path, kind=PROFILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def load_profile(path: str | Path) -> Profile:
    """Read and check a profile.

    Raises:
        ProfileError: missing, not JSON, other keys, or impossible numbers.
    """
    return build(Profile, read_json(path, ProfileError), f"the profile {path}", ProfileError)


def shipped_profiles() -> dict[str, Profile]:
    """The profiles that come with the package, by name."""
    folder = resources.files("tbft.metering") / "profiles"
    with resources.as_file(folder) as place:
        found = [load_profile(path) for path in sorted(place.glob("*.json"))]
    return {profile.name: profile for profile in found}


def find_profile(name_or_path: Profile | str | Path | None = None) -> Profile | None:
    """A shipped profile by its name, or one from a ``.json`` file; a profile is returned as it is.

    Args:
        name_or_path: None: the value of the environment variable ``TBFT_PROFILE``; no profile if it is unset.

    Raises:
        ProfileError: unknown name, or a file that is not a profile.
    """
    if isinstance(name_or_path, Profile):
        return name_or_path
    wanted = str(name_or_path) if name_or_path is not None else os.environ.get(VARIABLE)
    if not wanted:
        return None
    if wanted.endswith(".json") or os.sep in wanted:
        return load_profile(wanted)
    shipped = shipped_profiles()
    if wanted not in shipped:
        raise ProfileError(unknown("profile", wanted, shipped) + "; or give a .json file")
    return shipped[wanted]
