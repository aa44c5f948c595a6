"""Time, processor time, memory and energy of a piece of work.

with Meter() as meter:
    with meter.window("tune"):
        ...
print(meter.measurement.energy_in_words(), meter.windows["tune"].cpu_seconds)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tbft.errors import SensorError
from tbft.metering.measurement import Measurement, added
from tbft.metering.peaks import RESIDENT, Peak, Peaks
from tbft.metering.profile import Profile, find_profile
from tbft.metering.registry import find_sensor
from tbft.metering.sampling import Sampler, Span
from tbft.metering.sensor import Sensor


@dataclass
class _Open:
    """A window that has begun."""

    wall: float
    cpu: float
    epoch: float  # seconds since 1970, for logs of other clocks
    resident: Peak
    tensors: Peak | None
    span: Span | None


class Meter:
    """Measures the body of a ``with`` statement; read :attr:`measurement` and :attr:`windows` afterwards.

    Energy is measured where a sensor can be read, else estimated if a profile is given, else None. Work
    queued on a GPU is waited for at both ends of every window.

    Args:
        sensor: one of :func:`tbft.metering.find_sensors`; by default the best available. ``NO_SENSOR``: none.
        profile: of this board: for estimates, and for its idle power where it has the sensor's scope. By
            default the one that ``TBFT_PROFILE`` names.
        idle_watts: subtracted for the net figure, in the sensor's scope, as :func:`measure_idle` gives it.
        period_seconds: time between readings; by default the sensor's own, mostly 0.1 s.
        count_tensors: also fill in `peak_tensor_bytes`. Slows small operations down.
        cpu_clock: gives the processor seconds of what is metered; by default this process's.

    Raises:
        ProfileError: on entering, if ``TBFT_PROFILE`` names no profile.

    >>> with Meter() as meter:
    ...     total = sum(range(1000))
    >>> meter.measurement.wall_seconds >= 0
    True
    """

    measurement: Measurement
    windows: dict[str, Measurement]

    def __init__(
        self,
        sensor: Sensor | None = None,
        profile: Profile | None = None,
        idle_watts: float | None = None,
        period_seconds: float | None = None,
        count_tensors: bool = False,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.sensor, self.profile, self.idle_watts = sensor, profile, idle_watts
        self._period_seconds, self._count_tensors = period_seconds, count_tensors
        self._cpu_clock = cpu_clock

    def __enter__(self) -> Meter:
        self.profile = self.profile or find_profile()
        self.sensor = self.sensor or find_sensor()
        self.windows = {}
        self._tensors: Peaks | None = None
        self._counting: Any = nullcontext()
        if self._count_tensors:
            self._tensors, self._counting = _tensor_peaks()
        self._counting.__enter__()
        self._sampler = Sampler(self.sensor, self._period_seconds)
        if self.sensor.available and self.sensor.between is None:
            self._sampler.start()
        self._open = self._begin()
        self._seen = (self._open.wall, self._open.cpu)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.measurement = self._end(self._open)
        self._sampler.stop()
        self._counting.__exit__(kind, error, trace)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Measure a part of the work on its own. Windows may be nested; then both count.

        A name that is used again adds up: seconds, joules and samples are summed, peaks are the highest.
        """
        opened = self._begin()
        try:
            yield
        finally:
            found = self._end(opened)
            self.windows[name] = added(self.windows[name], found) if name in self.windows else found

    def live(self) -> str:
        """For a progress bar: recent watts where there is a sensor, and how busy the processor is."""
        wall, cpu = time.perf_counter(), self._cpu_clock()
        busy = (cpu - self._seen[1]) / max(wall - self._seen[0], 1e-6)
        self._seen = (wall, cpu)
        watts = self._sampler.watts
        return f"{100 * busy:.0f} % of a core" + ("" if watts is None else f", {watts:.1f} W")

    def _begin(self) -> _Open:
        _wait_for_gpu()
        resident = RESIDENT.begin()
        tensors = None if self._tensors is None else self._tensors.begin()
        span = self._sampler.begin() if self._samples else None
        return _Open(time.perf_counter(), self._cpu_clock(), time.time(), resident, tensors, span)

    def _end(self, opened: _Open) -> Measurement:
        _wait_for_gpu()
        wall, cpu = time.perf_counter() - opened.wall, self._cpu_clock() - opened.cpu
        if opened.span is not None:
            self._sampler.end(opened.span)
        found = Measurement(wall, cpu, RESIDENT.end(opened.resident), opened.resident.scope)
        if opened.tensors is not None and self._tensors is not None:
            found = replace(found, peak_tensor_bytes=self._tensors.end(opened.tensors))
        found = self._measured(found, opened)
        return found if found.energy_kind != "unavailable" else self._estimated(found)

    @property
    def _samples(self) -> bool:
        return self.sensor is not None and self.sensor.available and self.sensor.between is None

    def _measured(self, found: Measurement, opened: _Open) -> Measurement:
        """Adds the sensor's figure, or the reason why there is none."""
        sensor = self.sensor
        assert sensor is not None
        if not sensor.available:
            return replace(found, energy_reason=sensor.reason)
        span = opened.span or _logged(sensor, opened.epoch, found.wall_seconds)
        joules, gap = span.joules, span.longest_gap_seconds
        found = replace(found, power_samples=span.samples, longest_gap_seconds=gap)
        if joules is None:
            return replace(found, energy_reason=f"{sensor.name} could not be read: {span.reason}")
        if not sensor.cumulative and span.seconds:  # readings take time, and lie around the work
            joules *= found.wall_seconds / span.seconds
        idle = self.idle_watts
        if idle is None and self.profile is not None and self.profile.scope == sensor.scope:
            idle = self.profile.idle_watts
        return replace(
            found,
            energy_joules=joules,
            energy_kind=sensor.kind,
            energy_net_joules=None if idle is None else joules - idle * found.wall_seconds,
            energy_source=sensor.source,
            energy_scope=sensor.scope,
            energy_relative_error=sensor.relative_error,
            idle_watts=idle,
        )

    def _estimated(self, found: Measurement) -> Measurement:
        """Adds the profile's figure, if there is a profile."""
        profile = self.profile
        if profile is None:
            return found
        idle, cpu = profile.idle_watts, found.cpu_seconds
        return replace(
            found,
            energy_joules=None if idle is None else profile.joules(found.wall_seconds, cpu),
            energy_kind="estimated",
            energy_net_joules=profile.net_joules(cpu),
            energy_source=f"profile {profile.name}",
            energy_scope=profile.scope,
            energy_relative_error=profile.relative_error,
            idle_watts=idle,
        )


def measure_idle(sensor: Sensor | None = None, seconds: float = 10.0) -> float:
    """Watts of this machine while nothing else runs on it.

    Raises:
        SensorError: no sensor measures here, or it fails.
    """
    with Meter(sensor) as meter:
        time.sleep(seconds)
    found = meter.measurement
    if found.energy_joules is None or found.energy_kind != "measured":
        raise SensorError(f"idle power cannot be measured: {found.energy_reason}")
    return found.energy_joules / found.wall_seconds


def _logged(sensor: Sensor, epoch: float, wall_seconds: float) -> Span:
    """What a log says about a span of time."""
    assert sensor.between is not None
    span = Span(epoch, 0.0)
    try:
        span.joules, span.samples, span.longest_gap_seconds = sensor.between(epoch, epoch + wall_seconds)
    except Exception as error:
        span.reason = str(error)
    return span


def _tensor_peaks() -> tuple[Peaks, Any]:
    from tbft.metering.tensor_bytes import TensorBytes

    counted = TensorBytes()

    def reset() -> bool:
        counted.peak = counted.live
        return True

    return Peaks(lambda: counted.peak, reset), counted


def _wait_for_gpu() -> None:
    """Work that is queued on a GPU belongs to the window in which it was queued."""
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_available() and cuda.is_initialized():
        cuda.synchronize()
