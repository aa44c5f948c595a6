"""Whether gradients reach what an arm trains, before anything is trained in vain."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tbft.blocks.arm import Arm
from tbft.blocks.blocks import Blocks
from tbft.blocks.checking import signature, squares
from tbft.blocks.finer import cut_before
from tbft.blocks.inputs import Inputs, map_tensors
from tbft.blocks.placement import device_of, random_restored, to_device
from tbft.blocks.state import evaluating, values_restored
from tbft.errors import SplitError

#: Draws of random numbers, by which stochastic depth drops layers, before a layer counts as not reached.
DRAWS = 8


def check_gradients_reach(
    blocks: Blocks, arm: Arm | str, x: Inputs, loss: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Raise unless gradients of the logits reach what an arm trains, in the modes in which it is trained.

    Args:
        x: a batch as the model takes it; two of its samples are used.
        loss: of the logits; default: the sum of their squares.

    Raises:
        SplitError: none reaches it, or it reaches more where the inputs have a gradient as well, as
            with reentrant checkpointing.
    """
    arm = Arm.of(arm)
    if not arm.trains:
        return
    key = (*signature(blocks, x), *(p.requires_grad for p in blocks.model.parameters()))
    if blocks.reached.get(arm.name) == key:
        return
    finer, at = cut_before(blocks, arm)
    model = blocks.model
    few = map_tensors(lambda t: t[[0, -1]], to_device(x, device_of(model)))
    with values_restored(model), random_restored(device_of(model)), blocks.only(arm) as parameters:
        with evaluating(model):
            entering = finer.prefix(at)(few) if at else few
        rest = finer.onward(at)
        reached = carried = [False] * len(parameters)
        for seed in range(DRAWS):
            torch.manual_seed(seed)
            own = _reached(rest, entering, parameters, loss or squares)
            torch.manual_seed(seed)
            more = _reached(rest, map_tensors(_with_gradient, entering), parameters, loss or squares)
            reached, carried = list(map(operator.or_, reached, own)), list(map(operator.or_, carried, more))
            if all(reached):
                break
    if parameters and (not any(reached) or sum(reached) < sum(carried)):
        names = {id(p): name for name, p in model.named_parameters()}
        missed = next((names[id(p)] for p, r in zip(parameters, reached, strict=True) if not r), "")
        raise SplitError(
            f"no gradient reaches {missed!r} when {str(arm)!r} is tuned: it runs under torch.no_grad(), "
            "behind a detach(), or in reentrant checkpointing, which needs an input with a gradient; use "
            "checkpoint(..., use_reentrant=False), or tune another arm"
        )
    blocks.reached[arm.name] = key


def _reached(
    module: nn.Module, x: Inputs, parameters: Sequence[nn.Parameter], loss: Callable[[Tensor], Tensor]
) -> list[bool]:
    with torch.enable_grad():
        total = loss(module(x))
        if not total.requires_grad:
            return [False] * len(parameters)
        total.backward()
    reached = [p.grad is not None for p in parameters]
    for p in parameters:
        p.grad = None
    return reached


def _with_gradient(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor
