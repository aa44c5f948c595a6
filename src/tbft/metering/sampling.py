"""Reads a sensor in a thread of its own and adds up the energy."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tbft.errors import SensorError
from tbft.metering.sensor import Read, Sensor

#: No such machine draws more: a counter that rises faster was reset.
MAX_WATTS = 20_000.0

#: The energy of a span is unknown if power was not read for this share of it, and for ten periods.
MAX_GAP_SHARE = 0.1


@dataclass
class Span:
    """A span of time under a sampler."""

    start: float
    start_joules: float
    seconds: float = 0.0  # from the first reading to the last; 0 until it ends
    samples: int = 0
    longest_gap_seconds: float = 0.0
    joules: float | None = None  # None until it ends, and where it is unknown
    reason: str | None = None  # why not


class Sampler:
    """Reads a sensor every `period_seconds`, and at the ends of every span.

    Power is integrated by the trapezoidal rule; counters are read as often, so that none wraps
    around unseen. What goes wrong while reading never reaches the metered work: it becomes a span's reason.
    """

    def __init__(
        self,
        sensor: Sensor,
        period_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sensor = sensor
        self.period_seconds = period_seconds or sensor.period_seconds
        self.watts: float | None = None  # of the last reading
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._spans: list[Span] = []
        self._read: Read | None = None
        self._last: tuple[float, float] | None = None  # time and value of the last reading
        self._joules = 0.0
        self._problem: str | None = None  # of the last reading
        self._thread = threading.Thread(target=self._run, name="tbft-meter", daemon=True)

    def start(self) -> None:
        try:
            self._read = self.sensor.open()
        except Exception as error:
            self._problem = _described(error)
            return
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * self.period_seconds + 2)

    def begin(self) -> Span:
        with self._lock:
            self._take()
            span = Span(self._clock(), self._joules, samples=int(self._problem is None), reason=self._problem)
            self._spans.append(span)
        return span

    def end(self, span: Span) -> Span:
        """Take the last reading of a span and set its energy, or the reason why it is unknown."""
        with self._lock:
            self._take()
            self._spans.remove(span)
            span.seconds = self._clock() - span.start
            joules = self._joules - span.start_joules
            span.reason = span.reason or self._problem or self._unseen(span)
            if span.reason is None and joules <= 0:  # nothing runs without power
                span.reason = "its counter did not move" if self.sensor.cumulative else "it showed no power"
            span.joules = joules if span.reason is None else None
        return span

    def _run(self) -> None:
        due = self._clock()
        while True:
            due = max(due + self.period_seconds, self._clock())
            if self._stop.wait(max(due - self._clock(), 0.001)):
                return
            with self._lock:
                self._take()

    def _take(self) -> None:
        """One reading; the lock is held."""
        if self._read is None:
            return
        try:
            value, now = float(self._read()), self._clock()
            if not math.isfinite(value):
                raise SensorError(f"it reads {value}")
        except Exception as error:
            self._problem = _described(error)
            return
        self._problem = None
        if self._last is not None:
            self._add(max(now - self._last[0], 0.0), self._last[1], value)
        self._last = (now, value)
        if not self.sensor.cumulative:
            self.watts = value

    def _add(self, seconds: float, before: float, value: float) -> None:
        joules = value - before if self.sensor.cumulative else seconds * (before + value) / 2
        if self.sensor.cumulative and not 0 <= joules <= MAX_WATTS * (seconds + self.period_seconds):
            for span in self._spans:
                span.reason = f"its counter was reset or jumped by {joules:.6g} J in {seconds:.3f} s"
            return
        self._joules += joules
        if self.sensor.cumulative and seconds > 0:
            self.watts = joules / seconds
        for span in self._spans:
            span.samples += 1
            span.longest_gap_seconds = max(span.longest_gap_seconds, seconds)

    def _unseen(self, span: Span) -> str | None:
        """Power between two distant readings is a guess; a counter keeps counting."""
        max_gap = max(10 * self.period_seconds, MAX_GAP_SHARE * (self._clock() - span.start))
        if self.sensor.cumulative or span.longest_gap_seconds <= max_gap:
            return None
        return f"no reading for {span.longest_gap_seconds:.1f} s of it"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else repr(error)
