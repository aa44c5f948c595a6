"""Hooks on submodules that are removed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def on_input(module: nn.Module, use: Callable[[Tensor], object]) -> Iterator[None]:
    """Use the first input of a module, by position or by keyword, whenever it is called.

    >>> layer, found = nn.Identity(), []
    >>> with on_input(layer, found.append):
    ...     _ = layer(input=1)
    >>> found
    [1]
    """

    def hook(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        use(inputs[0] if inputs else next(iter(keywords.values())))

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
