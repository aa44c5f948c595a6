"""The log of an external meter: a CSV file of time and watts, or of time and joules counted.

The first line names the columns: ``time`` (seconds, or ISO 8601; without a zone it is local time), ``watts``
or ``joules``, and optionally ``marker``: any text in it marks a moment that is known on both clocks.

A log on this machine's clock that grows while the work runs is a sensor like any other (``TBFT_METER_LOG``
or ``--sensor FILE.csv``), read once at the end. One exported afterwards, on the meter's clock, is moved by
an offset or by its marker first (``tbft energy log``).
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tbft.errors import SensorError
from tbft.metering.sensor import Logged, Places, Sensor


@dataclass(frozen=True)
class MeterLog:
    """A meter's log.

    Attributes:
        times: seconds, rising.
        joules: counted since the first row, one for each time.
        markers: times of the rows that are marked.
    """

    times: tuple[float, ...]
    joules: tuple[float, ...]
    markers: tuple[float, ...] = ()

    def shifted(self, offset_seconds: float) -> MeterLog:
        """The log with `offset_seconds` added to its clock."""
        times, markers = (tuple(t + offset_seconds for t in ts) for ts in (self.times, self.markers))
        return replace(self, times=times, markers=markers)

    def aligned(self, marked_at: float) -> MeterLog:
        """The log on the clock on which its first marked row happened at `marked_at`.

        Raises:
            SensorError: no row is marked.
        """
        if not self.markers:
            raise SensorError("the log has no marked row: fill its column 'marker', or give an offset")
        return self.shifted(marked_at - self.markers[0])

    def between(self, start: float, end: float) -> Logged:
        """What flowed between two moments on the log's clock, linear between its rows.

        A log that ends up to two rows too early is extrapolated at its last power.

        Raises:
            SensorError: the log does not cover the time.

        >>> log = MeterLog(times=(0.0, 1.0, 2.0), joules=(0.0, 4.0, 8.0))
        >>> log.between(0.5, 2.0)
        Logged(joules=6.0, samples=2, longest_gap_seconds=1.0)
        """
        if start < self.times[0] or end > self.times[-1] + 2 * (self.times[-1] - self.times[-2]):
            raise SensorError(
                f"the log covers {self.times[0]:.1f} to {self.times[-1]:.1f}, the work ran from {start:.1f} "
                f"to {end:.1f}: are the clocks the same? Give an offset, or mark a row"
            )
        first, last = bisect_left(self.times, start), bisect_right(self.times, end)
        rows = self.times[max(first - 1, 0) : last + 1]
        gap = max((b - a for a, b in pairwise(rows)), default=end - start)
        return Logged(self._at(end) - self._at(start), last - first, gap)

    def _at(self, moment: float) -> float:
        """Joules counted by then."""
        i = min(max(bisect_right(self.times, moment), 1), len(self.times) - 1)
        (t0, t1), (j0, j1) = self.times[i - 1 : i + 1], self.joules[i - 1 : i + 1]
        return j0 + (j1 - j0) * (moment - t0) / (t1 - t0)


def read_log(path: Path) -> MeterLog:
    """Read a log.

    Raises:
        SensorError: it cannot be read, lacks a column, or has fewer than two rows or times that do not rise.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise SensorError(f"cannot read the meter's log {path}: {error}") from error
    names = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    value = next((name for name in ("joules", "watts") if name in names), None)
    if "time" not in names or value is None:
        raise SensorError(
            f"{path} needs columns 'time' and 'watts' or 'joules' and rows; it has {list(names)}"
        )
    try:
        times = [_seconds(row[names["time"]]) for row in rows]
        values = [float(row[names[value]]) for row in rows]
    except (TypeError, ValueError) as error:
        raise SensorError(f"{path}: {error}; write a number in every row") from error
    _check(path, times, values)
    marker = names.get("marker")
    marked = tuple(t for t, row in zip(times, rows, strict=True) if marker and (row[marker] or "").strip())
    counted = [v - values[0] for v in values] if value == "joules" else integrated(times, values)
    return MeterLog(tuple(times), tuple(counted), marked)


def integrated(times: Sequence[float], watts: Sequence[float]) -> list[float]:
    """Joules at each time since the first, by the trapezoidal rule.

    >>> integrated([0, 1, 3], [2, 4, 4])
    [0.0, 3.0, 11.0]
    """
    joules = [0.0]
    for i in range(1, len(times)):
        joules.append(joules[-1] + (times[i] - times[i - 1]) * (watts[i] + watts[i - 1]) / 2)
    return joules


def find(places: Places) -> list[Sensor]:
    """The log that the environment names, if any."""
    return [log_sensor(places.meter_log)] if places.meter_log is not None else []


def log_sensor(path: Path, name: str = "meterlog") -> Sensor:
    """A sensor that reads a log once the work is done; the log's clock has to be this machine's."""
    reason = None if path.exists() else f"{path} does not exist"
    return Sensor(
        name=name,
        scope="board",
        source=f"meter log {path.name}",
        between=lambda start, end: read_log(path).between(start, end),
        note="what flows through the meter",
        reason=reason,
        remedy=None if reason is None else "start the meter's logging first",
    )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()


def _check(path: Path, times: Sequence[float], values: Sequence[float]) -> None:
    if len(times) < 2:
        raise SensorError(f"{path} has fewer than two rows: nothing can be integrated")
    if not all(math.isfinite(x) for x in [*times, *values]):
        raise SensorError(f"{path} has a value that is not finite (NaN or infinite)")
    for i in range(1, len(times)):
        if times[i] <= times[i - 1]:
            raise SensorError(f"{path}, row {i + 1}: the time does not rise ({times[i - 1]} to {times[i]})")
