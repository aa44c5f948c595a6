"""NVIDIA's graphics processors, through NVML's counter of total energy (extra ``nvidia``).

The counter is in millijoules since the driver was loaded, on Volta and newer; older ones tell watts alone.
Source: nvmlDeviceGetTotalEnergyConsumption and nvmlDeviceGetPowerUsage in NVIDIA's NVML reference.
"""

from __future__ import annotations

from typing import Any

from tbft.errors import MissingExtraError
from tbft.metering.sensor import Places, Read, Sensor


def find(places: Places) -> list[Sensor]:
    """One sensor for all graphics processors together. Nothing of `places` matters to it."""
    try:
        import pynvml
    except ImportError:
        return [_described(str(MissingExtraError("nvidia-ml-py", "nvidia")), "only for NVIDIA hardware")]
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return [_described(f"NVML does not answer: {error}", "needs an NVIDIA driver")]
    if not handles:
        return [_described("the driver sees no graphics processor", "needs NVIDIA hardware")]
    try:
        _joules(pynvml, handles)()
    except pynvml.NVMLError:
        return [
            Sensor("nvml", "gpu", f"nvml power of {len(handles)} GPU", open=lambda: _watts(pynvml, handles))
        ]
    return [
        Sensor(
            "nvml",
            "gpu",
            f"nvml energy of {len(handles)} GPU",
            cumulative=True,
            open=lambda: _joules(pynvml, handles),
            note="the graphics cards, whoever uses them; nothing else of the machine",
        )
    ]


def _joules(nvml: Any, handles: list[Any]) -> Read:
    return lambda: sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1e3


def _watts(nvml: Any, handles: list[Any]) -> Read:
    return lambda: sum(nvml.nvmlDeviceGetPowerUsage(handle) for handle in handles) / 1e3


def _described(reason: str, remedy: str) -> Sensor:
    return Sensor("nvml", "gpu", "nvml", reason=reason, remedy=remedy)
