"""Every change of the user's model is paired with its undo: modes, flags, values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers in `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Give every module its training or evaluation mode back on exit."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def flags_restored(model: nn.Module) -> Iterator[None]:
    """Give every parameter its `requires_grad` and its gradient back on exit."""
    flags = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for p, _, _ in flags:
        p.grad = None
    try:
        yield
    finally:
        for p, requires_grad, grad in flags:
            p.requires_grad_(requires_grad)
            p.grad = grad


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; the modes come back on exit."""
    with modes_restored(model), torch.no_grad():
        model.eval()
        yield


@contextmanager
def values_restored(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Give every tensor of the state dict its values back on exit, in place; yields the saved copy."""
    saved = clone_state(model)
    try:
        yield saved
    finally:
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                tensor.copy_(saved[key])


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict that later training does not touch."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
