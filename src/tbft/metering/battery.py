"""A battery's discharge, through Linux's ``power_supply``.

``power_now`` is in microwatts; where a driver lacks it, ``voltage_now`` (microvolts) times ``current_now``
(microamperes). Firmware refreshes them every second at best, some only twice a minute.
Source: https://docs.kernel.org/power/power_supply_class.html
"""

from __future__ import annotations

from pathlib import Path

from tbft.errors import SensorError
from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text


def find(places: Places) -> list[Sensor]:
    """One sensor a battery of the machine's own; those of mice and headsets are left out."""
    folder = places.sysfs / "class" / "power_supply"
    try:
        supplies = sorted(folder.iterdir())
    except OSError:
        supplies = []
    batteries = [path for path in supplies if _is_ours(path)]
    if not batteries:
        return [_described(folder, reason=f"{folder} has no battery", remedy="only for machines with one")]
    return [_probed(path) for path in batteries]


def discharge_watts(battery: Path) -> float:
    """Watts that flow out of a battery now.

    Raises:
        SensorError: it is not discharging, so it says nothing of what the machine takes.
    """
    status = read_text(battery / "status")
    if status != "Discharging":
        raise SensorError(f"{battery.name} is not discharging but {status.lower()!r}")
    try:
        return abs(read_number(battery / "power_now")) / 1e6
    except OSError:
        volts, amperes = read_number(battery / "voltage_now"), read_number(battery / "current_now")
        return abs(volts * amperes) / 1e12


def _probed(battery: Path) -> Sensor:
    try:
        discharge_watts(battery)
    except SensorError as error:
        return _described(battery, reason=str(error), remedy="unplug the mains while you measure")
    except (OSError, ValueError) as error:
        return _described(
            battery, reason=f"{battery.name} tells no power: {error}", remedy="use another sensor"
        )
    return _described(battery)


def _is_ours(path: Path) -> bool:
    try:
        if read_text(path / "type") != "Battery":
            return False
    except OSError:
        return False
    try:
        return read_text(path / "scope") != "Device"
    except OSError:
        return True


def _described(battery: Path, reason: str | None = None, remedy: str | None = None) -> Sensor:
    def open_battery() -> Read:
        return lambda: discharge_watts(battery)

    return Sensor(
        name="battery" if battery.name == "power_supply" else f"battery:{battery.name}",
        scope="battery",
        source=f"power_supply {battery.name}",
        open=open_battery,
        period_seconds=1.0,
        note="the whole machine with its screen; too coarse for work of under a minute",
        reason=reason,
        remedy=remedy,
    )
