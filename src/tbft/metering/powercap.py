"""RAPL: the energy counters of Intel and AMD processors, through Linux's powercap.

A package's zone covers its cores, caches, memory controller and built-in graphics; ``core`` and ``uncore``
below it are parts of it and not added. ``dram`` is the memory modules, outside of the package, and added.
``psys`` and the copies under ``intel-rapl-mmio`` would count the same energy twice and are left out.
A processor of several dies has a zone for each. On some, each die counts its own energy; on others they all
show the counter of the socket, which is then counted once.
Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text

_ZONE = re.compile(r"(intel|amd)-rapl:\d+")
_PACKAGE = re.compile(r"(package-\d+)(-die-\d+)?")
_READABLE = "sudo chmod a+r /sys/class/powercap/*/energy_uj, until the next start; for good: docs/energy.md"

#: Zones that may show one counter: those of a package and kind.
Group = tuple[Path, ...]


def find(places: Places) -> list[Sensor]:
    """One sensor for all packages together."""
    folder = places.sysfs / "class" / "powercap"
    zones, hidden = _zones(folder)
    if not zones and hidden:
        reason = f"{hidden[0]} leads nowhere: a container hides the counters from what runs in it"
        remedy = "run outside of the container, or mount /sys/devices/virtual/powercap into it, read-only"
        return [_described("rapl", reason=reason, remedy=remedy)]
    if not zones:
        reason = (
            f"{folder} has no package zone: another processor, a virtual machine, a container, "
            "or a module is missing"
        )
        return [_described("rapl", reason=reason, remedy="on a real one: sudo modprobe intel_rapl_msr")]
    groups = _groups(zones)
    source = "rapl " + " + ".join(map(_name, groups))
    try:
        counters(groups)()
    except PermissionError:
        return [_described(source, reason="only root may read the counters", remedy=_READABLE)]
    except (OSError, ValueError) as error:
        return [_described(source, reason=f"the counters cannot be read: {error}", remedy=_READABLE)]
    return [_described(source, groups)]


def counters(groups: Sequence[Group]) -> Read:
    """A function that returns joules since now over all groups, across the wrap-around of each counter."""
    readers = [_GroupCounter(group) for group in groups]
    return lambda: sum(reader.read() for reader in readers) / 1e6


class _GroupCounter:
    """Microjoules of zones that may show one counter, since the first reading."""

    def __init__(self, zones: Group) -> None:
        self._zones = zones
        self._ranges = [read_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [read_number(zone / "energy_uj") for zone in zones]
        self._totals = [0.0 for _ in zones]
        self._separate = False

    def read(self) -> float:
        values = [read_number(zone / "energy_uj") for zone in self._zones]
        again = read_number(self._zones[0] / "energy_uj") if len(values) > 1 else values[0]
        # One counter that was read in between shows a value in between.
        span = counter_difference(values[0], again, self._ranges[0])
        later = [counter_difference(values[0], value, self._ranges[0]) for value in values]
        self._separate = self._separate or max(later) > span or len(set(self._ranges)) > 1
        for i, value in enumerate(values):
            self._totals[i] += counter_difference(self._last[i], value, self._ranges[i])
        self._last = values
        return sum(self._totals) if self._separate else self._totals[0]


def counter_difference(before: float, after: float, max_value: float) -> float:
    """What a counter that starts again at 0 beyond `max_value` has counted between two readings.

    It has to be read at least once a round: a package at 100 W takes 44 minutes for the usual 262 kJ.

    >>> counter_difference(10, 25, 100), counter_difference(90, 5, 100)
    (15, 15)
    """
    return after - before if after >= before else after - before + max_value


def _zones(folder: Path) -> tuple[list[Path], list[Path]]:
    """Packages, each followed by the memory below it; and links to zones that lead nowhere."""
    found, hidden = [], []
    try:
        entries = sorted(entry for entry in folder.iterdir() if _ZONE.fullmatch(entry.name))
    except OSError:
        entries = []
    for zone in entries:
        if (name := _zone_name(zone)) is None:
            hidden.append(zone)
        elif name.startswith("package"):
            parts = [*sorted(folder.glob(f"{zone.name}:*")), *sorted(zone.glob(f"{zone.name}:*"))]
            by_name = {part.name: part for part in parts}  # Linux shows each twice
            found += [zone, *(part for part in by_name.values() if _zone_name(part) == "dram")]
    return found, hidden


def _zone_name(zone: Path) -> str | None:
    try:
        return read_text(zone / "name")
    except OSError:
        return None


def _groups(zones: Sequence[Path]) -> list[Group]:
    groups: dict[tuple[str, str], list[Path]] = {}
    package = ""
    for zone in zones:
        name = read_text(zone / "name")
        if name != "dram":
            match = _PACKAGE.fullmatch(name)
            package = match[1] if match else name
        groups.setdefault((package, "dram" if name == "dram" else "package"), []).append(zone)
    return [tuple(group) for group in groups.values()]


def _name(group: Group) -> str:
    """Such as ``package-0``, ``dram`` or ``package-0 (4 dies)``."""
    name = read_text(group[0] / "name")
    if len(group) == 1:
        return name
    match = _PACKAGE.fullmatch(name)
    return f"{match[1] if match else name} ({len(group)} dies)"


def _described(
    source: str, groups: Sequence[Group] = (), reason: str | None = None, remedy: str | None = None
) -> Sensor:
    return Sensor(
        name="rapl",
        scope="package",
        source=source,
        cumulative=True,
        open=lambda: counters(groups),
        note="processor, and memory where it is named; not the disk, the screen or the power supply's loss",
        reason=reason,
        remedy=remedy,
    )
