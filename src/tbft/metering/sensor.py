"""What a sensor of power or energy is.

A sensor is a description: where its figure comes from, what it covers, whether it can be read. One that
cannot be read is described as well, with the reason and the remedy, so that no exception has to be
caught to learn that a machine measures nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tbft.errors import SensorError

#: What a figure covers; of several sensors, the one whose scope comes first is used.
SCOPES = ("board", "battery", "rails", "package", "gpu", "process")

#: Returns joules since some moment, or watts now; may raise anything where it cannot.
Read = Callable[[], float]


class Logged(NamedTuple):
    """What a log says about a span of time."""

    joules: float
    samples: int
    longest_gap_seconds: float


@dataclass(frozen=True)
class Places:
    """Where sensors are looked for; another tree or command can stand in for hardware.

    Attributes:
        sysfs: the mount point of sysfs. From the environment: ``TBFT_SYSFS_ROOT``, else ``/sys``.
        vcgencmd: the Raspberry Pi's command. ``TBFT_VCGENCMD``, else ``vcgencmd``.
        meter_log: CSV file that an external meter writes. ``TBFT_METER_LOG``, else None.
    """

    sysfs: Path = Path("/sys")
    vcgencmd: str = "vcgencmd"
    meter_log: Path | None = None

    @classmethod
    def from_environment(cls) -> Places:
        log = os.environ.get("TBFT_METER_LOG")
        return cls(
            sysfs=Path(os.environ.get("TBFT_SYSFS_ROOT") or "/sys"),
            vcgencmd=os.environ.get("TBFT_VCGENCMD") or "vcgencmd",
            meter_log=Path(log) if log else None,
        )


def _nothing() -> Read:
    raise SensorError("nothing measures energy here")


@dataclass(frozen=True)
class Sensor:
    """One source of a figure.

    Attributes:
        name: for ``--sensor``, such as ``rapl``.
        scope: what the figure covers, one of :data:`SCOPES`.
        source: what is read, such as ``rapl package-0 + dram``.
        cumulative: `open()` gives a function that returns joules since some moment; else watts now.
        open: starts reading. What it returns is called by one thread at a time.
        between: in place of `open`, for a log: what it says about the time between two moments (seconds since
            1970), asked once the second has passed.
        period_seconds: time between two readings; longer where a reading is expensive.
        kind: ``measured``, or ``estimated`` where a formula stands between reading and figure.
        relative_error: of an estimate, one standard deviation; None where none was published.
        note: what the figure leaves out.
        reason, remedy: why it cannot be read and what to do about it; None where it can.
    """

    name: str
    scope: str
    source: str = ""
    cumulative: bool = False
    open: Callable[[], Read] = _nothing
    between: Callable[[float, float], Logged] | None = None
    period_seconds: float = 0.1
    kind: str = "measured"
    relative_error: float | None = None
    note: str = ""
    reason: str | None = None
    remedy: str | None = None

    @property
    def available(self) -> bool:
        return self.reason is None


#: Stands for a sensor where there is none, or where none is wanted.
NO_SENSOR = Sensor("none", "process", reason="nothing measures it here", remedy="see tbft energy probe")


def read_text(path: Path) -> str:
    """The content of a small file of sysfs."""
    return path.read_text().strip()


def read_number(path: Path) -> float:
    return float(read_text(path))


def board_name(places: Places) -> str:
    """The firmware's name of this board; "unknown" if it has none."""
    for name in ("firmware/devicetree/base/model", "class/dmi/id/product_name"):
        try:
            if text := read_text(places.sysfs / name).strip("\0 "):
                return text
        except OSError:
            continue
    return "unknown"
