"""A board's fitted power model, which turns seconds into joules."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tbft.errors import TbftError


@dataclass(frozen=True)
class Profile:
    """What a board draws, fitted beside a meter; an estimate by it carries its name and its error."""

    name: str
    board: str
    date: str
    meter: str
    idle_watts: float
    watts_per_core: float
    joules_per_gflop: float | None
    relative_error: float
    scope: str
    source: str

    def joules(self, wall_seconds: float, cpu_seconds: float) -> float:
        """Gross energy of so much work."""
        return self.idle_watts * wall_seconds + self.net_joules(cpu_seconds)

    def net_joules(self, cpu_seconds: float) -> float:
        """The same less what the board takes idle."""
        return self.watts_per_core * cpu_seconds


def find_profile(name_or_path: str | None) -> Profile | None:
    """The profile in a file; without one, that which the environment variable TBFT_PROFILE names."""
    path = name_or_path or os.environ.get("TBFT_PROFILE")
    if not path:
        return None
    try:
        return Profile(**json.loads(Path(path).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise TbftError(f"{path} is no profile of a board: {error}") from error
