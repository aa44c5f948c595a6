"""NVIDIA's graphics cards, through NVML's counter of total energy (extra ``nvidia``).

The counter is in millijoules since the driver was loaded, on Volta and newer; older cards show watts only,
and small or virtual ones neither.
Source: nvmlDeviceGetTotalEnergyConsumption and nvmlDeviceGetPowerUsage in NVIDIA's NVML reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tbft.errors import MissingExtraError, SensorError
from tbft.metering.sensor import Places, Read, Sensor

_NEEDED = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
)


def find(places: Places) -> list[Sensor]:
    """One sensor for all graphics cards together. `places` is not used."""
    try:
        import pynvml
    except ImportError:
        return [_described(str(MissingExtraError("nvidia-ml-py", "nvidia")), "only for NVIDIA hardware")]
    except Exception as error:  # another package of this name may raise anything
        return [_foreign(f"cannot be imported ({error})")]
    if missing := [name for name in _NEEDED if not callable(getattr(pynvml, name, None))]:
        return [_foreign(f"has no {missing[0]}")]
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception as error:
        return [_described(f"NVML does not answer: {error}", "needs an NVIDIA driver")]
    if not handles:
        return [_described("the driver sees no graphics card", "needs NVIDIA hardware")]
    return [_of_cards(pynvml, handles)]


def _of_cards(nvml: Any, handles: Sequence[Any]) -> Sensor:
    """The counters if every card has one, else the power of those that show it."""
    if all(_works(nvml.nvmlDeviceGetTotalEnergyConsumption, handle) for handle in handles):
        readable, read, what = list(handles), nvml.nvmlDeviceGetTotalEnergyConsumption, "energy"
    else:
        read, what = nvml.nvmlDeviceGetPowerUsage, "power"
        readable = [handle for handle in handles if _works(read, handle)]
    if not readable:
        return _described(
            "the driver reports neither energy nor power of " + _counted(len(handles)),
            "small and virtual cards do not measure it; use another sensor",
        )
    silent = [str(i) for i, handle in enumerate(handles) if handle not in readable]
    left_out = f"; without card {', '.join(silent)}, which does not show its power" if silent else ""
    return Sensor(
        name="nvml",
        scope="gpu",
        source=f"nvml {what} of {_counted(len(readable))}",
        cumulative=what == "energy",
        open=lambda: _total(read, readable),
        note="the graphics cards, whoever uses them; nothing else in the machine" + left_out,
    )


def _total(read: Callable[[Any], float], handles: Sequence[Any]) -> Read:
    """Joules or watts over all cards; NVML counts in thousandths."""
    return lambda: sum(_number(read, handle) for handle in handles) / 1e3


def _number(read: Callable[[Any], float], handle: Any) -> float:
    value = read(handle)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise SensorError(f"a card shows {value!r}")
    return float(value)


def _works(read: Callable[[Any], float], handle: Any) -> bool:
    try:
        _number(read, handle)
    except Exception:
        return False
    return True


def _counted(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _foreign(what: str) -> Sensor:
    return _described(
        f"the installed module pynvml is not NVIDIA's: it {what}",
        "pip uninstall the package that brings it, and pip install nvidia-ml-py",
    )


def _described(reason: str, remedy: str) -> Sensor:
    return Sensor("nvml", "gpu", "nvml", reason=reason, remedy=remedy)
