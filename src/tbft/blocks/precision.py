"""In what precision and memory layout the network is computed while tuning.

Parameters, statistics and patches stay ``float32``; accuracy is always measured in ``float32``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tbft.blocks.inputs import Inputs, call, map_tensors, tensors_of
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.errors import PlanError, unknown

PRECISIONS = ("float32", "bfloat16", "auto")

CPU = torch.device("cpu")

#: Samples on which a precision and a layout are tried; BatchNorm needs more than one.
TRIED = 2
#: Height and width in pixels from which depthwise convolutions gain from ``bfloat16`` without AMX tiles.
LARGE = 160


@dataclass(frozen=True)
class Computing:
    """How a model is computed while tuning. Made by :func:`computing_for`.

    Attributes:
        precision: ``float32`` or ``bfloat16``, the latter with ``float32`` where torch's autocast keeps it.
        channels_last: whether pictures are laid out with their channels together in memory.
        device: the model's.
    """

    precision: str = "float32"
    channels_last: bool = False
    device: torch.device = CPU

    @property
    def random_devices(self) -> list[torch.device]:
        """Devices besides the CPU from whose generators random numbers are drawn."""
        return [self.device] if self.device.type == "cuda" else []

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward pass computes in this precision."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def laid_out(self, x: Inputs) -> Any:
        """The inputs on the device, pictures in this memory layout."""
        x = to_device(x, self.device)
        return map_tensors(laid_out, x) if self.channels_last else x


#: What was found for a model, and for which inputs.
_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Computing]] = WeakKeyDictionary()


def computing_for(
    model: nn.Module, x: Inputs, precision: str = "auto", channels_last: bool = True
) -> Computing:
    """How to compute a model: the fastest way in which it takes a first batch, tried once and remembered.

    A step in training mode is tried on two of the samples. A layer that does not take ``bfloat16`` makes
    ``auto`` fall back to ``float32``; one that needs contiguous memory, as ``view`` on activations does,
    makes `channels_last` fall back to that. The model comes back as it was.

    Args:
        x: a batch on any device.
        precision: ``auto`` takes ``bfloat16`` where the device gains from it.

    Raises:
        PlanError: an unknown precision, or ``bfloat16`` requested by name that the model does not take.
    """
    if precision not in PRECISIONS:
        raise PlanError(unknown("precision", precision, PRECISIONS))
    device = device_of(model)
    few = map_tensors(lambda t: t[:TRIED] if len(t) > 1 else t.repeat(TRIED, *[1] * (t.ndim - 1)), x)
    shapes = tuple((t.dtype, t.shape) for t in tensors_of(few))
    question = (precision, channels_last, device, shapes)
    known = _FOUND.setdefault(model, {})
    if question not in known:
        known[question] = _first_that_works(model, to_device(few, device), precision, channels_last, device)
    return known[question]


def _first_that_works(
    model: nn.Module, x: Inputs, precision: str, channels_last: bool, device: torch.device
) -> Computing:
    gains = gains_from_bfloat16(device) and not (device.type == "cpu" and _is_slow_in_bfloat16(model, x))
    half = precision == "bfloat16" or (precision == "auto" and gains)
    pictures = channels_last and any(t.ndim == 4 for t in tensors_of(x))
    errors: dict[Computing, Exception] = {}
    for kind in ("bfloat16", "float32") if half else ("float32",):
        for layout in (True, False) if pictures else (False,):
            computing = Computing(kind, layout, device)
            error = _tried(model, x, computing)
            if error is None:
                if precision == "bfloat16" and kind == "float32":
                    cause = errors[Computing("bfloat16", False, device)]
                    raise PlanError(
                        f"{type(model).__name__} does not compute in bfloat16 ({cause}): use float32, or auto"
                    ) from cause
                return computing
            errors[computing] = error
    # It cannot take these inputs at all, which is reported better where it is run.
    return Computing("float32", False, device)


def _tried(model: nn.Module, x: Inputs, computing: Computing) -> Exception | None:
    """What a step in training mode raises; None if it works and gives finite numbers."""
    with (
        values_restored(model),
        modes_restored(model),
        flags_restored(model),
        torch.random.fork_rng(devices=computing.random_devices),
        torch.enable_grad(),
    ):
        model.requires_grad_(False)
        model.train()
        x = map_tensors(_with_gradient, computing.laid_out(x))
        try:
            # Some layers run other code without gradients, such as torch's encoder of a transformer.
            with torch.no_grad(), computing.autocast():
                model.eval()
                call(model, x)
                model.train()
            with computing.autocast():
                outputs = list(tensors_of(call(model, x)))
            total = sum((out.float().sum() for out in outputs if out.is_floating_point()), torch.zeros(()))
            if total.requires_grad:
                total.backward()
            if computing.precision != "float32" and not total.isfinite():
                return ArithmeticError("it gives numbers that are not finite")
        except Exception as error:  # whatever a layer raises on a type or a layout that it does not take
            return error
    return None


def _with_gradient(x: Tensor) -> Tensor:
    return x.detach().requires_grad_() if x.is_floating_point() else x


def autocast(precision: str) -> AbstractContextManager[object]:
    """The context in which a forward pass on the CPU computes in this precision; see :class:`Computing`."""
    if precision not in PRECISIONS:
        raise PlanError(unknown("precision", precision, PRECISIONS))
    if precision == "bfloat16" or (precision == "auto" and gains_from_bfloat16()):
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def gains_from_bfloat16(device: torch.device = CPU) -> bool:
    """Whether a device is faster in ``bfloat16``: it has tensor cores, AMX tiles or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return _has("amx_tile") or _has("avx512_bf16")


def _has(feature: str) -> bool:
    """Whether the processor has these instructions."""
    # Private in torch; where a version lacks it, only speed is lost.
    check = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return check is not None and bool(check())


def _is_slow_in_bfloat16(model: nn.Module, x: Inputs) -> bool:
    """Whether it has layers that a CPU computes more slowly in ``bfloat16``.

    A step of a GRU, which torch computes time by time, casting its weights anew, takes twice as long; an
    LSTM, which has a kernel of its own, half as long. Without AMX tiles, depthwise convolutions of small
    pictures take up to twice as long, and those of large ones less (``benchmarks/larger_pictures.py``).
    """
    modules = list(model.modules())
    if any(isinstance(module, (nn.GRU, nn.RNN)) for module in modules):
        return True
    is_small = any(t.ndim == 4 and min(t.shape[2:]) < LARGE for t in tensors_of(x))
    return is_small and not _has("amx_tile") and any(_is_depthwise(module) for module in modules)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels


def laid_out(x: Tensor) -> Tensor:
    """Pictures (n, c, h, w) with their channels together in memory; anything else as it is.

    One convolution with such an input keeps the layout for all that follow, which saves about a
    fifth of the time and leaves the user's parameters alone.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
