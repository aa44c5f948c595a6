"""What a piece of work cost: plain values, each with where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """What a piece of work cost, all from the same run.

    No energy figure goes without its kind: ``measured`` by a sensor, ``estimated`` from a profile or by a
    formula, or ``unavailable``, in which case it is None.

    Attributes:
        wall_seconds: elapsed, on a clock that does not jump.
        cpu_seconds: processor time of this process, all threads, user and system.
        peak_rss_bytes: highest resident memory; None where the system does not report it.
        peak_rss_scope: ``window``: since the start of the work; ``process``: since the process began.
        energy_joules: gross: of everything the scope covers, whoever caused it, idle power included.
        energy_kind: ``measured``, ``estimated`` or ``unavailable``.
        energy_net_joules: the gross figure minus what idling would have taken; None where that is unknown.
        energy_source: such as ``rapl package-0`` or ``profile raspberry-pi-5``.
        energy_scope: what the figure covers: board, battery, rails, package, gpu or process.
        energy_relative_error: of an estimate, one standard deviation.
        idle_watts: what was subtracted, per second, for the net figure.
        power_samples: readings of the sensor in this time, its start and end among them.
        longest_gap_seconds: the longest time between two of them.
        peak_tensor_bytes: highest number of bytes of tensors; None unless asked for.
        energy_reason: why there is no measured figure; None if there is one.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int | None
    peak_rss_scope: str
    energy_joules: float | None = None
    energy_kind: str = "unavailable"
    energy_net_joules: float | None = None
    energy_source: str | None = None
    energy_scope: str | None = None
    energy_relative_error: float | None = None
    idle_watts: float | None = None
    power_samples: int = 0
    longest_gap_seconds: float | None = None
    peak_tensor_bytes: int | None = None
    energy_reason: str | None = None

    def energy_in_words(self) -> str:
        """One line for people.

        >>> cost = Measurement(2.0, 1.0, None, "process", 12.34, "measured", 8.0, "rapl package-0", "package")
        >>> cost.energy_in_words()
        '12.3 J measured (package, by rapl package-0), 8 J of it above idle'
        """
        if self.energy_kind == "unavailable":
            return f"unavailable: {self.energy_reason or 'nothing measures it here'}"
        error = self.energy_relative_error
        spread = "" if error is None else f" ± {100 * error:.0f} %"
        how = f"{spread} {self.energy_kind} ({self.energy_scope}, by {self.energy_source})"
        net = None if self.energy_net_joules is None else _joules(self.energy_net_joules)
        if self.energy_joules is None:
            return f"{net} above idle{how}"
        return f"{_joules(self.energy_joules)}{how}" + (f", {net} of it above idle" if net else "")


def added(a: Measurement, b: Measurement) -> Measurement:
    """Two measurements of one meter as one; a figure that either lacks is None.

    >>> a = Measurement(1.0, 1.0, 5, "window", 2.0, "measured", power_samples=3, longest_gap_seconds=0.1)
    >>> added(a, a).energy_joules, added(a, a).power_samples, added(a, a).peak_rss_bytes
    (4.0, 6, 5)
    """
    sums = ("wall_seconds", "cpu_seconds", "energy_joules", "energy_net_joules", "power_samples")
    peaks = ("peak_rss_bytes", "longest_gap_seconds", "peak_tensor_bytes")
    values: dict[str, Any] = {n: _both(getattr(a, n), getattr(b, n), sum) for n in sums}
    values |= {n: _both(getattr(a, n), getattr(b, n), max) for n in peaks}
    if a.energy_kind != b.energy_kind:  # kinds never mix in one figure
        values |= {"energy_joules": None, "energy_net_joules": None, "energy_kind": "unavailable"}
        values["energy_reason"] = a.energy_reason or b.energy_reason or "measured in part only"
    return replace(a, **values)


def _both(a: Any, b: Any, join: Any) -> Any:
    return None if a is None or b is None else join([a, b])


def _joules(value: float) -> str:
    return f"{value:.3g} J" if abs(value) < 1000 else f"{value:,.0f} J"
