"""What a model takes: one tensor, or several by name (token ids and a mask) or by position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

#: A batch: dimension 0 of every tensor counts the samples.
Inputs = Tensor | Mapping[str, Tensor] | Sequence[Tensor]


def map_tensors(function: Callable[[Tensor], Tensor], x: Inputs) -> Any:
    """The same structure with each tensor replaced; mappings become dicts, sequences tuples."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, Mapping):
        return {key: map_tensors(function, value) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(map_tensors(function, value) for value in x)
    return x


def tensors_of(x: Inputs) -> Iterator[Tensor]:
    """Every tensor of a batch."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (Mapping, tuple, list)):
        for value in x.values() if isinstance(x, Mapping) else x:
            yield from tensors_of(value)


def call(model: Callable[..., Any], x: Inputs) -> Any:
    """The model on a batch: a mapping goes by keyword where ``forward`` has such parameters."""
    if isinstance(x, Mapping) and _by_keyword(model, x):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


def may_take_several(model: object) -> bool:
    """Whether the forward of a module has more than one parameter."""
    parameters = _parameters(model.forward) if isinstance(model, nn.Module) else []
    return len(parameters) > 1 or any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def _by_keyword(model: Callable[..., Any], x: Mapping[str, Any]) -> bool:
    parameters = _parameters(model.forward if isinstance(model, nn.Module) else model)
    return any(p.kind is p.VAR_KEYWORD for p in parameters) or set(x) <= {p.name for p in parameters}


def _parameters(forward: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those of a function; none where they are not known, as with TorchScript."""
    try:
        return list(inspect.signature(forward).parameters.values())
    except ValueError:
        return []
