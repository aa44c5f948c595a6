"""A model that cannot be traced, as one block that is run as a whole; its calls are observed on a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from tbft.blocks.blocks import Blocks
from tbft.blocks.heads import mixes
from tbft.blocks.inputs import Inputs, call, map_tensors
from tbft.blocks.outputs import Output, UnknownOutputError, Whole, logits_of, taken_from
from tbft.blocks.ownership import own_all
from tbft.blocks.placement import device_of, random_restored, to_device
from tbft.blocks.state import modes_restored, values_restored
from tbft.blocks.tracing import Traced
from tbft.errors import SplitError
from tbft.packing import packing_of

#: The name of the only block.
WHOLE = "whole"


def observed(model: nn.Module, example: Inputs, output: Output, reason: str) -> Blocks:
    """One block that is the model itself, so that it is never another model, whatever its code does.

    Any submodule can still be tuned by its name, and the head alone; nothing before it is cached.

    Args:
        reason: why the model cannot be traced.

    Raises:
        SplitError: it cannot take the example, returns no logits, or uses weights that it did not register.
    """
    few = map_tensors(Tensor.detach, to_device(example, device_of(model)))
    calls: list[tuple[str, Tensor]] = []
    with values_restored(model), random_restored(device_of(model)), modes_restored(model):
        model.eval()
        with _recorded(model, calls), torch.enable_grad():
            try:
                returned = call(model, map_tensors(Tensor.clone, few))
            except Exception as error:
                raise SplitError(
                    f"{type(model).__name__} cannot take the example: {type(error).__name__}: {error}"
                ) from error
        logits = output(returned)
        if not isinstance(logits, Tensor):
            raise UnknownOutputError(
                f"the model returns a {type(logits).__name__}, not a tensor computed from its inputs"
            )
        _refuse_unregistered(model, logits)
        head = _head(calls, logits)
    adapted = not isinstance(example, Tensor) or logits is not returned
    taken = taken_from(returned) if output is logits_of else ""
    traced = Traced(fx.Graph(), {}, adapted=adapted, taken=taken, opaque=reason, head=head)
    packing = None if isinstance(example, Tensor) else packing_of(example)
    stage = Whole(model, output, packing) if adapted else model
    return Blocks(model, [stage], [own_all(model, WHOLE)], traced, map_tensors(lambda t: t[:1], few), output)


@contextmanager
def _recorded(model: nn.Module, calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Record the layers with a weight matrix as they are called, with their outputs."""

    def record(name: str, _: nn.Module, __: object, result: Any) -> None:
        if isinstance(result, Tensor):
            calls.append((name, result))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            is_leaf = is_parametrized(module) or not any(True for _ in module.children())
            if name and is_leaf and mixes(module):
                handle = module.register_forward_hook(partial(record, name))
                stack.callback(handle.remove)
        yield


def _head(calls: list[tuple[str, Tensor]], logits: Tensor) -> str:
    """The last layer that the logits are made from, if possible one with as many outputs; empty: none."""
    used = [(name, out) for name, out in calls if out.requires_grad and _leads_to(out, logits)]
    alike = [name for name, out in used if out.shape == logits.shape]
    return alike[-1] if alike else used[-1][0] if used else ""


def _leads_to(out: Tensor, logits: Tensor) -> bool:
    if not logits.requires_grad:
        return False
    try:
        (gradient,) = torch.autograd.grad(logits.sum(), out, retain_graph=True, allow_unused=True)
    except RuntimeError:  # it has no backward pass in evaluation mode
        return False
    return gradient is not None


def _refuse_unregistered(model: nn.Module, logits: Tensor) -> None:
    """Raise if gradients reach tensors that are not parameters of the model, which no patch could hold."""
    known = {id(p) for p in model.parameters()}
    seen: set[Any] = set()
    waiting = [logits.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        tensor = getattr(function, "variable", None)
        if tensor is not None and id(tensor) not in known:
            raise SplitError(
                f"{type(model).__name__} uses weights of shape {tuple(tensor.shape)} that are not registered "
                "(in a plain list or dict, say), so that its state dict lacks them: keep modules in "
                "nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter or nn.ParameterList"
            )
        waiting.extend(following for following, _ in function.next_functions)
