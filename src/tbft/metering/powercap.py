"""RAPL: the energy counters of Intel and AMD processors, through Linux's powercap.

A package's zone covers its cores, caches, memory controller and built-in graphics; ``core`` and ``uncore``
below it are parts of it and not added. ``dram`` is the memory modules, outside of the package, and added.
``psys`` and the copies under ``intel-rapl-mmio`` would count the same energy twice and are left out.
Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tbft.metering.sensor import Places, Read, Sensor, read_number, read_text

_ZONE = re.compile(r"(intel|amd)-rapl:\d+")
_REMEDY = "sudo chmod a+r /sys/class/powercap/*/energy_uj, until the next start; for good: docs/energy.md"


def find(places: Places) -> list[Sensor]:
    """One sensor for all packages together."""
    folder = places.sysfs / "class" / "powercap"
    try:
        zones = _zones(folder)
    except OSError:
        zones = []
    if not zones:
        reason = f"{folder} has no package zone: no such processor, a virtual machine, or a module is missing"
        return [_described("rapl", reason=reason, remedy="on a real one: sudo modprobe intel_rapl_msr")]
    names = " + ".join(read_text(zone / "name") for zone in zones)
    try:
        counters(zones)()
    except PermissionError:
        reason = "the counters may be read by root alone"
        return [_described(f"rapl {names}", reason=reason, remedy=_REMEDY)]
    except (OSError, ValueError) as error:
        return [_described(f"rapl {names}", reason=f"the counters cannot be read: {error}", remedy=_REMEDY)]
    return [_described(f"rapl {names}", zones)]


def counters(zones: Sequence[Path]) -> Read:
    """A function that gives joules since now, over all zones, across the wrap-around of each."""
    ranges = [read_number(zone / "max_energy_range_uj") for zone in zones]
    last = [read_number(zone / "energy_uj") for zone in zones]
    total_uj = 0.0

    def read() -> float:
        nonlocal total_uj
        now = [read_number(zone / "energy_uj") for zone in zones]
        total_uj += sum(map(counted, last, now, ranges))
        last[:] = now
        return total_uj / 1e6

    return read


def counted(before: float, after: float, most: float) -> float:
    """What a counter that starts again at 0 beyond `most` has counted between two readings.

    It has to be read at least once a round: a package at 100 W takes 44 minutes for the usual 262 kJ.

    >>> counted(10, 25, 100), counted(90, 5, 100)
    (15, 15)
    """
    return after - before if after >= before else after - before + most


def _zones(folder: Path) -> list[Path]:
    """Packages, and the memory below them."""
    found = []
    for zone in sorted(folder.iterdir()):
        if not _ZONE.fullmatch(zone.name) or not read_text(zone / "name").startswith("package"):
            continue
        found.append(zone)
        parts = [*sorted(folder.glob(f"{zone.name}:*")), *sorted(zone.glob(f"{zone.name}:*"))]
        drams = {part.name: part for part in parts if read_text(part / "name") == "dram"}
        found += drams.values()
    return found


def _described(
    source: str, zones: Sequence[Path] = (), reason: str | None = None, remedy: str | None = None
) -> Sensor:
    return Sensor(
        name="rapl",
        scope="package",
        source=source,
        cumulative=True,
        open=lambda: counters(zones),
        note="processor, and memory where it is named; not the disk, the screen or the power supply's loss",
        reason=reason,
        remedy=remedy,
    )
