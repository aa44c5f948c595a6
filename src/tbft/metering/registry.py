"""The sensors of this machine, and which of them is used.

Other packages add sensors through the entry point group ``tbft.sensors``: each entry names a function
without arguments that returns some :class:`Sensor` s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from tbft.errors import SensorError, unknown
from tbft.metering import battery, hwmon, meterlog, nvml, pmic, powercap
from tbft.metering.sensor import NO_SENSOR, SCOPES, Places, Sensor

#: Each has a function `find(places)` that describes its sensors, including those that cannot be read.
MODULES = (hwmon, pmic, battery, powercap, nvml, meterlog)

GROUP = "tbft.sensors"


def find_sensors(places: Places | None = None) -> list[Sensor]:
    """Every sensor that this machine has or could have: the readable ones first, then in the order of SCOPES.

    Args:
        places: where to look; by default what the environment names.
    """
    places = places or Places.from_environment()
    found = [sensor for module in MODULES for sensor in module.find(places)] + _third_party()
    return sorted(found, key=_rank)


def best_sensor(sensors: Sequence[Sensor]) -> Sensor:
    """The first of those that measure; :data:`NO_SENSOR` if none does. Nothing is ever added up."""
    return next((s for s in sorted(sensors, key=_rank) if s.available and s.kind == "measured"), NO_SENSOR)


def find_sensor(name: str | None = None, places: Places | None = None) -> Sensor:
    """The best available sensor, or the one of that name; a name ending in ``.csv`` is a meter's log.

    Raises:
        SensorError: no sensor has that name, or the one that has it cannot be read.
    """
    if name is not None and name.endswith(".csv"):
        sensors = [meterlog.log_sensor(Path(name), name=name)]
    else:
        sensors = find_sensors(places)
    if name is None:
        return best_sensor(sensors)
    if name == NO_SENSOR.name:
        return NO_SENSOR
    for sensor in sensors:
        if sensor.name == name and sensor.available:
            return sensor
        if sensor.name == name:
            raise SensorError(f"sensor {name!r} cannot be read: {sensor.reason}; {sensor.remedy}")
    raise SensorError(unknown("sensor", name, [s.name for s in sensors]))


def _rank(sensor: Sensor) -> tuple[bool, bool, int]:
    place = SCOPES.index(sensor.scope) if sensor.scope in SCOPES else len(SCOPES)
    return (not sensor.available, sensor.kind != "measured", place)


@lru_cache(maxsize=1)
def _entry_points() -> tuple[Callable[[], Callable[[], Iterable[Sensor]]], ...]:
    return tuple(point.load for point in entry_points(group=GROUP))


def _third_party() -> list[Sensor]:
    """Sensors of other packages; a package that fails becomes a sensor that cannot be read."""
    found: list[Sensor] = []
    for load in _entry_points():
        try:
            found += load()()
        except Exception as error:  # nothing that goes wrong there may stop what is metered here
            reason = f"a package's entry point in {GROUP!r} fails: {error!r}"
            found.append(Sensor("third-party", "process", reason=reason, remedy="fix or remove it"))
    return found
