"""Peaks of resident memory and of tensors in nested windows.

The system keeps one high-water mark. It is reset when a window begins; what it had reached by then is first
recorded for every open window, so that none loses its peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Peak:
    scope: str  # "window", or "process" where the mark cannot be reset
    reached: int = 0


class Peaks:
    """High-water marks of open windows, kept with one mark that can be read and reset."""

    def __init__(self, read: Callable[[], int | None], reset: Callable[[], bool]) -> None:
        self._read, self._reset = read, reset
        self._open: list[Peak] = []

    def begin(self) -> Peak:
        now = self._read() or 0
        for peak in self._open:
            peak.reached = max(peak.reached, now)
        peak = Peak("window" if self._reset() else "process")
        self._open.append(peak)
        return peak

    def end(self, peak: Peak) -> int | None:
        self._open = [other for other in self._open if other is not peak]
        now = self._read()
        return None if now is None else max(now, peak.reached)


def _reset_peak_rss() -> bool:
    """Reset Linux's high-water mark of resident memory to the current use."""
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


#: For all meters of this process: it has one mark.
RESIDENT = Peaks(_peak_rss_bytes, _reset_peak_rss)
