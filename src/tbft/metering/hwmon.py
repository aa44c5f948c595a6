"""Current and voltage monitors of Texas Instruments: on Jetson boards, and as add-on meters.

The kernel's drivers show INA219, INA226, INA238 (one channel) and INA3221 (three, with labels) under
``hwmon``: ``powerN_input`` in microwatts where the driver has it, else millivolts times milliamperes. Of an
INA3221 only the channels 1 to 3 are rails: ``in4`` to ``in7`` are voltages over the shunts, and ``curr4`` is
the sum of the currents, whatever their voltages are.
Source: https://docs.kernel.org/hwmon/ina2xx.html, ina3221.html, ina238.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text

CHIPS = ("ina209", "ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina237", "ina238",
         "ina260", "ina3221")  # fmt: skip

#: Labels of the channel that feeds the whole board; every other labeled channel is a part of it.
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN", "VIN_SYS_5V0_IN", "5V_IN")

#: Labels of unconnected channels.
UNCONNECTED = ("", "NC", "N/C", "UNUSED")

_RAILS_OF_INA3221 = (1, 2, 3)


@dataclass(frozen=True)
class Channel:
    """One shunt: the folder of its chip, the chip's kind, the channel's number and label (may be empty)."""

    chip: Path
    kind: str
    number: int
    label: str

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.label}" if self.label else self.kind


def find(places: Places) -> list[Sensor]:
    """One sensor per channel, after one for the rails of a board that no channel measures as a whole."""
    folder = places.sysfs / "class" / "hwmon"
    try:
        chips = sorted(path for path in folder.iterdir() if _chip_kind(path) in CHIPS)
    except OSError:
        chips = []
    channels = [
        Channel(chip, _chip_kind(chip), number, _label(chip, number))
        for chip in chips
        for number in _numbers(chip)
    ]
    if not channels:
        remedy = "wire an INA219 between supply and board and load its driver: docs/energy.md"
        reason = f"{folder} has no current monitor (INA219, INA226, INA238, INA3221)"
        return [Sensor("hwmon", "board", "hwmon", reason=reason, remedy=remedy)]
    return [*_sums(channels), *(_single(channel, channels) for channel in channels)]


def channel_watts(channel: Channel) -> Read:
    """A function that reads one channel's watts."""
    chip, number = channel.chip, channel.number
    power = chip / f"power{number}_input"
    if power.exists():
        return lambda: read_number(power) / 1e6
    volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
    return lambda: read_number(volts) * read_number(amperes) / 1e6


def _sums(channels: Sequence[Channel]) -> list[Sensor]:
    """The labeled rails of each chip together, unless a channel of the board covers the whole of it."""
    if any(channel.label in WHOLE_BOARD for channel in channels):
        return []
    found: list[Sensor] = []
    for chip in dict.fromkeys(channel.chip for channel in channels):
        rails = [c for c in channels if c.chip == chip and c.label.upper() not in UNCONNECTED]
        if len(rails) > 1:
            found.append(_sum(rails, f"{rails[0].kind}:rails" + ("" if not found else f"#{len(found) + 1}")))
    return found


def _sum(rails: Sequence[Channel], name: str) -> Sensor:
    def open_rails() -> Read:
        reads = [channel_watts(rail) for rail in rails]
        return lambda: sum(read() for read in reads)

    labels = " + ".join(rail.label for rail in rails)
    reason = next((found for found in map(_problem, rails) if found), None)
    return Sensor(
        name=name,
        scope="rails",
        source=f"hwmon {rails[0].kind}, {labels} ({rails[0].chip.name})",
        open=open_rails,
        note="these rails together; a rail that feeds another of them counts twice",
        reason=reason,
        remedy=None if reason is None else "look at the wiring and at dmesg",
    )


def _single(channel: Channel, channels: Sequence[Channel]) -> Sensor:
    unnamed = [other for other in channels if not other.label]
    whole = channel.label in WHOLE_BOARD or unnamed == [channel]
    if whole:
        note = "what flows through its shunt"
    elif channel.label:
        note = f"the rail {channel.label} alone"
    else:
        note = f"one of {len(unnamed)} channels without a name: what it feeds is not known"
    alike = [other for other in channels if other.name == channel.name]
    place = alike.index(channel) + 1
    name = channel.name if place == 1 else f"{channel.name}#{place}"
    reason = _problem(channel)
    return Sensor(
        name=name,
        scope="board" if whole else "rails",
        source=f"hwmon {name} ({channel.chip.name} channel {channel.number})",
        open=lambda: channel_watts(channel),
        note=note,
        reason=reason,
        remedy=None if reason is None else "look at the wiring and at dmesg",
    )


def _problem(channel: Channel) -> str | None:
    try:
        channel_watts(channel)()
    except (OSError, ValueError) as error:
        return f"{channel.chip.name} channel {channel.number} cannot be read: {error}"
    return None


def _numbers(chip: Path) -> list[int]:
    """Channels with a power, or with a current and a voltage; a disabled channel has none."""
    files = {path.name for path in chip.iterdir()}
    numbers = {int(m[1]) for name in files if (m := re.fullmatch(r"(?:power|curr)(\d+)_input", name))}
    whole = {n for n in numbers if f"power{n}_input" in files or f"in{n}_input" in files}
    if _chip_kind(chip) == "ina3221":
        whole &= set(_RAILS_OF_INA3221)
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


def _chip_kind(chip: Path) -> str:
    try:
        return read_text(chip / "name")
    except OSError:
        return ""
