"""Where a model is, and its inputs with it: everything follows the model's device."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn

from tbft.blocks.inputs import Inputs, map_tensors
from tbft.errors import SplitError


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


def to_device(x: Inputs, device: torch.device) -> Any:
    """The inputs on a device: one tensor, or several in a mapping or sequence."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), x)
