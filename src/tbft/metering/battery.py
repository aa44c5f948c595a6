"""The discharge of a machine's batteries, through Linux's ``power_supply``.

``power_now`` is in microwatts; where a driver lacks it, ``voltage_now`` (microvolts) times ``current_now``
(microamperes). Firmware refreshes them once a second at best, some only twice a minute. A machine with
several batteries may drain them in turn or together, so only their sum is what it draws.
Source: https://docs.kernel.org/power/power_supply_class.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tbft.errors import SensorError
from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text


def find(places: Places) -> list[Sensor]:
    """One sensor for all batteries of the machine; those of mice and headsets are left out."""
    folder = places.sysfs / "class" / "power_supply"
    try:
        supplies = sorted(folder.iterdir())
    except OSError:
        supplies = []
    batteries = [path for path in supplies if _powers_the_machine(path)]
    if not batteries:
        return [_described([], reason=f"{folder} has no battery", remedy="only for machines with one")]
    try:
        discharge_watts(batteries)
    except SensorError as error:
        return [_described(batteries, str(error), "unplug the mains while you measure")]
    except (OSError, ValueError) as error:
        names = " and ".join(path.name for path in batteries)
        return [_described(batteries, f"{names}: no power can be read: {error}", "use another sensor")]
    return [_described(batteries)]


def discharge_watts(batteries: Sequence[Path]) -> float:
    """Watts that flow out of all batteries together now.

    A battery that is full or waits adds nothing while another one discharges.

    Raises:
        SensorError: none discharges, or one is charged, so that they do not show what the machine draws.
        OSError, ValueError: a discharging battery does not report how much.
    """
    states = {battery: read_text(battery / "status") for battery in batteries}
    discharging = [battery for battery, state in states.items() if state == "Discharging"]
    shown = ", ".join(f"{battery.name} is {state.lower()!r}" for battery, state in states.items())
    if not discharging:
        raise SensorError(f"not discharging: {shown}")
    if "Charging" in states.values():
        raise SensorError(f"one battery charges another: {shown}")
    return sum(map(_watts, discharging))


def _watts(battery: Path) -> float:
    try:
        return abs(read_number(battery / "power_now")) / 1e6
    except OSError:
        volts, amperes = read_number(battery / "voltage_now"), read_number(battery / "current_now")
        return abs(volts * amperes) / 1e12


def _powers_the_machine(path: Path) -> bool:
    if _read(path / "type") != "Battery":
        return False
    return _read(path / "scope") != "Device" and _read(path / "present") != "0"


def _read(path: Path) -> str | None:
    try:
        return read_text(path)
    except OSError:
        return None


def _described(batteries: Sequence[Path], reason: str | None = None, remedy: str | None = None) -> Sensor:
    def open_batteries() -> Read:
        return lambda: discharge_watts(batteries)

    names = [battery.name for battery in batteries]
    return Sensor(
        name=":".join(["battery", "+".join(names)] if names else ["battery"]),
        scope="battery",
        source=f"power_supply {' + '.join(names)}".strip(),
        open=open_batteries,
        period_seconds=1.0,
        note="the whole machine with its screen; too coarse for work of under a minute",
        reason=reason,
        remedy=remedy,
    )
