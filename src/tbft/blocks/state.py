"""Every change of the user's model is paired with its undo: modes, flags, values.

Undone are also changes that no state dict shows: of buffers with ``persistent=False``, of tensors, numbers
and containers kept as plain attributes, of a module's extra state.
"""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: What every module has in its ``__dict__``: its flag, hooks and tables, which are not values.
_MACHINERY = frozenset(vars(nn.Module()))

#: What can change inside.
_CHANGEABLE = (Tensor, dict, list, tuple, set, torch.Generator)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers in `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of every module on exit."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    finally:
        with uninterrupted():
            # Modules may do more in a `train` of their own than to set the flag, such as merge their weights.
            for module, training in modes:
                if module.training != training:
                    module.train(training)
            for module, training in modes:
                module.training = training


@contextmanager
def flags_restored(model: nn.Module) -> Iterator[None]:
    """Restore `requires_grad` and the gradient of every parameter on exit."""
    flags = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for p, _, _ in flags:
        p.grad = None
    try:
        yield
    finally:
        with uninterrupted():
            for p, requires_grad, grad in flags:
                p.requires_grad_(requires_grad)
                p.grad = grad


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; the modes are restored on exit."""
    with modes_restored(model), torch.no_grad():
        model.eval()
        yield


@contextmanager
def values_restored(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Restore all values of the model on exit; yields a copy of its state dict.

    Tensors are written in place, so that whoever holds them sees their values; where a module put another
    tensor in the place of one, the first comes back.
    """
    noted = _Noted(model)
    saved = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):  # extra state need not be
            clone = noted.clones.get(id(value))
            saved[key] = value.detach().clone() if clone is None else clone
    with noted.given_back():
        yield saved


@contextmanager
def evaluating_alone(model: nn.Module) -> Iterator[None]:
    """As :func:`evaluating`, for a whole pass over samples: what a forward pass changes is restored, too.

    Some models count their calls, or keep statistics, in evaluation mode as well. Parameters are not copied.
    """
    with _Noted(model, with_parameters=False).given_back(), evaluating(model):
        yield


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Restore the attributes that every module had, and no others; the values of tensors stay."""
    tables = [t for m in model.modules() for t in (vars(m), m._parameters, m._buffers, m._modules)]
    kept = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, kept, strict=True):
            _refill(table, entries)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, and SIGTERM where it is handled, wait until what is inside is done."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread() or not heeded:
        yield
        return
    waiting: list[tuple[int, Any]] = []
    for number in heeded:
        signal.signal(number, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if waiting:
            heeded[signal.Signals(waiting[0][0])](*waiting[0])


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict that later training does not touch."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def write_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Write values into the tensors of a model's state dict, in place; those that `state` lacks stay.

    Unlike ``load_state_dict`` it runs no hooks that convert, and can write expanded tensors.
    """
    for key, tensor in model.state_dict().items():
        if key in state:
            _write(tensor, state[key])


class _Noted:
    """Values noted before a change: copies of tensors, and what restores everything."""

    def __init__(self, model: nn.Module, with_parameters: bool = True) -> None:
        self.clones: dict[int, Tensor] = {}  # id of a tensor, which `undo` keeps alive -> its copy
        self.undo: list[Callable[[], object]] = []
        self._seen: set[int] = set() if with_parameters else {id(p) for p in model.parameters()}
        for module in model.modules():
            self._note_module(module)

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Everything is restored on exit."""
        try:
            yield
        finally:
            with uninterrupted(), ExitStack() as stack:  # which continues if one of them fails
                for give_back in self.undo:
                    stack.callback(give_back)

    def _note_module(self, module: nn.Module) -> None:
        """Everything that a module itself holds, except its children."""
        plain = {name: value for name, value in vars(module).items() if name not in _MACHINERY}
        for table in (plain, module._parameters, module._buffers):
            self._note(table)
            for _, value in table.items():  # of TorchScript, which has tables of its own
                self._note(value)
        self.undo.append(partial(_refill_plain, module, plain))
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            self.undo.append(partial(module.set_extra_state, copy.deepcopy(module.get_extra_state())))

    def _note(self, value: object) -> None:
        """A tensor, a container of some, or a generator of random numbers."""
        if not isinstance(value, _CHANGEABLE) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            self.clones[id(value)] = value.detach().clone()
            self.undo.append(partial(_write, value, self.clones[id(value)]))
        elif isinstance(value, torch.Generator):
            self.undo.append(partial(value.set_state, value.get_state()))
        else:
            for entry in value.values() if isinstance(value, dict) else value:
                self._note(entry)
            self.undo.append(partial(_refill, value, copy.copy(value)))


def _refill_plain(module: nn.Module, plain: dict[str, Any]) -> None:
    machinery = {name: value for name, value in vars(module).items() if name in _MACHINERY}
    _refill(vars(module), machinery | plain)


def _refill(container: Any, kept: Any) -> None:
    """The container with exactly the entries that it had."""
    if isinstance(container, dict):
        same = list(container) == list(kept) and all(container[key] is kept[key] for key in kept)
        if not same:
            container.clear()
            container.update(kept)
    elif isinstance(container, list):
        container[:] = kept
    elif isinstance(container, set):
        container.clear()
        container.update(kept)


def _write(tensor: Tensor, value: Tensor) -> None:
    """Copy `value` into a tensor of its shape, also one made by ``expand``, whose memory is shared."""
    with torch.no_grad():
        for dim in range(tensor.ndim if tensor.layout == torch.strided else 0):
            if tensor.stride(dim) == 0 and tensor.shape[dim] > 1:
                tensor, value = tensor.narrow(dim, 0, 1), value.narrow(dim, 0, 1)
        tensor.copy_(value)
