"""Current and voltage monitors of Texas Instruments: on Jetson boards, and as add-on meters.

The kernel's drivers show INA219, INA226, INA238 (one channel) and INA3221 (three, with labels) under
``hwmon``: ``powerN_input`` in microwatts where the driver has it, else millivolts times milliamperes.
Source: https://docs.kernel.org/hwmon/ina2xx.html, ina3221.html, ina238.html
"""

from __future__ import annotations

import re
from pathlib import Path

from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text

CHIPS = ("ina209", "ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina237", "ina238",
         "ina260", "ina3221")  # fmt: skip

#: Labels of the channel that feeds the whole board; every other labeled channel is a part of it.
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN", "VIN_SYS_5V0_IN", "5V_IN")


def find(places: Places) -> list[Sensor]:
    """One sensor a channel. Channels are never added up: one may feed another."""
    folder = places.sysfs / "class" / "hwmon"
    try:
        chips = sorted(path for path in folder.iterdir() if _name(path) in CHIPS)
    except OSError:
        chips = []
    channels = [(chip, number) for chip in chips for number in _numbers(chip)]
    if not channels:
        remedy = "wire an INA219 between supply and board and load its driver: docs/energy.md"
        reason = f"{folder} has no current monitor (INA219, INA226, INA238, INA3221)"
        return [Sensor("hwmon", "board", "hwmon", reason=reason, remedy=remedy)]
    names = [_name(chip) + (f":{_label(chip, n)}" if _label(chip, n) else "") for chip, n in channels]
    seen: dict[str, int] = {}
    sensors = []
    for (chip, number), name in zip(channels, names, strict=True):
        seen[name] = seen.get(name, 0) + 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        sensors.append(_sensor(chip, number, unique))
    return sensors


def watts_of(chip: Path, number: int) -> Read:
    """A function that reads one channel's watts."""
    power = chip / f"power{number}_input"
    if power.exists():
        return lambda: read_number(power) / 1e6
    volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
    return lambda: read_number(volts) * read_number(amperes) / 1e6


def _sensor(chip: Path, number: int, name: str) -> Sensor:
    label = _label(chip, number)
    whole = not label or label in WHOLE_BOARD
    reason = None
    try:
        watts_of(chip, number)()
    except (OSError, ValueError) as error:
        reason = f"{chip.name} channel {number} cannot be read: {error}"
    return Sensor(
        name=name,
        scope="board" if whole else "rails",
        source=f"hwmon {name} ({chip.name} channel {number})",
        open=lambda: watts_of(chip, number),
        note="what flows through its shunt" if whole else f"the rail {label} alone",
        reason=reason,
        remedy=None if reason is None else "look at the wiring and at dmesg",
    )


def _numbers(chip: Path) -> list[int]:
    """Channels with a power, or with a current and a voltage; a disabled channel has none."""
    files = {path.name for path in chip.iterdir()}
    numbers = {int(m[1]) for name in files if (m := re.fullmatch(r"(?:power|curr)(\d+)_input", name))}
    whole = {n for n in numbers if f"power{n}_input" in files or f"in{n}_input" in files}
    return sorted(n for n in whole if _enabled(chip, n))


def _enabled(chip: Path, number: int) -> bool:
    try:
        return read_text(chip / f"in{number}_enable") != "0"
    except OSError:
        return True


def _label(chip: Path, number: int) -> str:
    for name in (f"power{number}_label", f"in{number}_label", f"curr{number}_label"):
        try:
            return read_text(chip / name)
        except OSError:
            continue
    return ""


def _name(chip: Path) -> str:
    try:
        return read_text(chip / "name")
    except OSError:
        return ""
