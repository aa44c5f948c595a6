"""Where a model is, and its inputs with it: everything follows the model's device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from tbft.blocks.inputs import Inputs, map_tensors
from tbft.errors import DeviceError, SplitError, unknown


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's parameters and buffers; the CPU for a model without any.

    Raises:
        SplitError: they lie on several devices.
    """
    found = dict.fromkeys(t.device for t in chain(model.parameters(), model.buffers()))
    if len(found) > 1:
        names = ", ".join(str(device) for device in found)
        raise SplitError(f"{type(model).__name__} lies on several devices ({names}): move it to one")
    return next(iter(found), torch.device("cpu"))


def find_device(name: str = "auto") -> torch.device:
    """The device that a name stands for; ``auto`` is a GPU if there is one, else the CPU.

    Raises:
        DeviceError: an unknown name, or a device that is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    kind = name.partition(":")[0]
    if kind not in present:
        raise DeviceError(unknown("device", name, ["auto", *present]))
    if not present[kind]:
        here = ", ".join(kind for kind, is_present in present.items() if is_present)
        raise DeviceError(f"there is no device {name!r} here; there is {here}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"the device {name!r} cannot be used: {error}") from error
    return device


@contextmanager
def random_restored(device: torch.device) -> Iterator[None]:
    """torch's random numbers continue afterwards as if none had been drawn, on the CPU and on a GPU."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def to_device(x: Inputs, device: torch.device) -> Any:
    """The inputs on a device: one tensor, or several in a mapping or sequence."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), x)
