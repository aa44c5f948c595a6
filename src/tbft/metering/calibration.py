"""Fits a board's profile: power when idle and with 1 to n busy cores, by a sensor or an external meter.

states = list(measured_states(sensor_watts(sensor, seconds=20)))
profile = make_profile(fit(states), states, name="my-board", board="...", meter="...", scope="board")
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from statistics import fmean, stdev

import numpy as np

from tbft.errors import ProfileError, SensorError
from tbft.metering.loads import LOADS, Busy
from tbft.metering.meter import Meter
from tbft.metering.profile import Profile
from tbft.metering.sensor import Sensor

#: Busy cores have to add this share of the idle power; otherwise the meter does not see them.
MIN_RISE = 0.02

#: (load, cores) -> watts and their spread while the board is in that state.
WattsOf = Callable[[str, int], tuple[float, float]]


@dataclass(frozen=True)
class State:
    """A board in one state, and its power.

    Attributes:
        load: ``idle``, or one of ``tbft.metering.loads.LOADS``.
        cores: number of processes that were kept busy.
        watts, spread_watts: mean, and standard deviation over the readings (0 for a single one).
        busy_cores: processor seconds per second that they used.
        gflops_per_second: of all processes together; 0 where operations are not counted.
    """

    load: str
    cores: int
    watts: float
    spread_watts: float = 0.0
    busy_cores: float = 0.0
    gflops_per_second: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A power model and how well it fits; `residual_watts` are measured minus fitted, one for each state."""

    idle_watts: float
    watts_per_core: float
    joules_per_gflop: float | None
    relative_error: float
    residual_watts: tuple[float, ...]
    watts_per_core_by_load: Mapping[str, float] = field(default_factory=dict)


def fit(states: Sequence[State]) -> Fit:
    """Least squares of watts = idle + watts_per_core * busy cores, over all states together.

    Loads differ in the power of a busy core. Pooled, that becomes part of the error, as it should: what
    will be estimated is a mixture. J/GFLOP is the slope of power above idle over convolution speed.

    Args:
        states: at least three, with at least two different numbers of busy cores.

    Raises:
        ProfileError: too few states, or power that does not rise with busy cores.

    >>> found = fit([State("idle", 0, 2.0), State("plain", 1, 3.0, 0, 1.0), State("plain", 2, 4.0, 0, 2.0)])
    >>> round(found.idle_watts, 6), round(found.watts_per_core, 6), round(found.relative_error, 6)
    (2.0, 1.0, 0.0)
    """
    busy, watts = (np.array([getattr(s, name) for s in states], float) for name in ("busy_cores", "watts"))
    if len(states) < 3 or np.ptp(busy) < 0.1:
        raise ProfileError("a fit needs three states or more, with different numbers of busy cores")
    design = np.stack([np.ones_like(busy), busy], 1)
    (idle, per_core), *_ = np.linalg.lstsq(design, watts, rcond=None)
    if idle <= 0 or per_core * np.ptp(busy) < MIN_RISE * idle:
        raise ProfileError(
            f"power does not rise with busy cores ({idle:.2f} W + {per_core:.2f} W per core): does the meter "
            "cover this board, and was it idle otherwise?"
        )
    fitted = idle + per_core * busy
    relative = (watts - fitted) / fitted
    return Fit(
        idle_watts=float(idle),
        watts_per_core=float(per_core),
        joules_per_gflop=_slope([s for s in states if s.gflops_per_second], idle, "gflops_per_second"),
        relative_error=float(math.sqrt((relative**2).sum() / (len(states) - 2))),
        residual_watts=tuple((watts - fitted).tolist()),
        watts_per_core_by_load={
            load: slope
            for load in dict.fromkeys(s.load for s in states if s.cores)
            if (slope := _slope([s for s in states if s.load == load], idle, "busy_cores")) is not None
        },
    )


def _slope(states: Sequence[State], idle_watts: float, over: str) -> float | None:
    """Least squares of power above idle, through the origin."""
    x = [getattr(s, over) for s in states]
    square = sum(v * v for v in x)
    above = sum(v * (s.watts - idle_watts) for v, s in zip(x, states, strict=True))
    return float(above / square) if square and above > 0 else None


def measured_states(
    watts_of: WattsOf, loads: Iterable[str] = tuple(LOADS), cores: int | None = None
) -> Iterator[State]:
    """Put the board into every state, one after another, and measure each.

    Args:
        watts_of: measures while a state lasts; see :func:`sensor_watts`.
        loads: names of ``tbft.metering.loads.LOADS``.
        cores: the highest number kept busy; by default all that this process may use.
    """
    yield State("idle", 0, *watts_of("idle", 0))
    for load in loads:
        for count in range(1, (cores or usable_cores()) + 1):
            with Busy(load, count) as busy:
                watts, spread = watts_of(load, count)
            yield State(load, count, watts, spread, busy.cores, busy.gflops_per_second)


def sensor_watts(sensor: Sensor, seconds: float, parts: int = 5) -> WattsOf:
    """Measures power with a sensor: a fifth of `seconds` to settle, then the mean over `parts` windows."""

    def watts_of(load: str, cores: int) -> tuple[float, float]:
        time.sleep(seconds / 5)
        found = []
        for _ in range(parts):
            with Meter(sensor) as meter:
                time.sleep(0.8 * seconds / parts)
            cost = meter.measurement
            if cost.energy_joules is None:
                raise SensorError(f"no power while {load} on {cores} cores: {cost.energy_reason}")
            found.append(cost.energy_joules / cost.wall_seconds)
        return fmean(found), stdev(found) if parts > 1 else 0.0

    return watts_of


def make_profile(
    found: Fit, states: Sequence[State], name: str, board: str, meter: str, scope: str
) -> Profile:
    """A profile from a fit, dated today."""
    return Profile(
        name=name,
        board=board,
        date=date.today().isoformat(),
        meter=meter,
        idle_watts=found.idle_watts,
        watts_per_core=found.watts_per_core,
        joules_per_gflop=found.joules_per_gflop,
        relative_error=found.relative_error,
        scope=scope,
        source="tbft energy calibrate on this board",
        fit={
            "watts_per_core_by_load": dict(found.watts_per_core_by_load),
            "states": [
                {**asdict(state), "residual_watts": residual}
                for state, residual in zip(states, found.residual_watts, strict=True)
            ],
        },
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
