"""Time, processor time and memory of a piece of work, and its energy where that is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class Measurement:
    """What a piece of work cost, all from the same run.

    `energy_joules` is None unless `energy_kind` is ``measured`` or ``estimated``.
    """

    wall_seconds: float
    cpu_seconds: float  # processor time of this process, all threads, user and system
    peak_rss_bytes: int | None  # highest resident memory; None where the system does not tell
    peak_rss_scope: str  # "window": since the start of the work; "process": since the process began
    energy_joules: float | None = None
    energy_kind: str = "unavailable"  # measured, estimated or unavailable


class Meter:
    """Measures the body of a ``with`` statement; read :attr:`measurement` afterwards.

    >>> with Meter() as meter:
    ...     total = sum(range(1000))
    >>> meter.measurement.wall_seconds >= 0
    True
    """

    measurement: Measurement

    def __enter__(self) -> Meter:
        self._scope = "window" if _reset_peak_rss() else "process"
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.measurement = Measurement(
            wall_seconds=time.perf_counter() - self._wall,
            cpu_seconds=time.process_time() - self._cpu,
            peak_rss_bytes=_peak_rss_bytes(),
            peak_rss_scope=self._scope,
        )


def _reset_peak_rss() -> bool:
    """Set Linux's high-water mark of resident memory back to the present use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss_bytes() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
