"""Counts the bytes of tensors while something runs, which torch does not do on a CPU."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorBytes(TorchDispatchMode):
    """Counts the storages that operations allocate inside, and when they are freed.

    Tensors from before, such as the model's parameters, are not counted, nor is memory that
    an operation allocates and frees itself. Slows small operations down, so time is measured without it.

    Attributes:
        live: bytes now.
        peak: the highest number of bytes so far.

    >>> with TensorBytes() as counted:
    ...     x = torch.zeros(1000)
    ...     y = (x + 1).sum()
    >>> counted.peak >= 8000, counted.live < 8000
    (True, True)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, torch.Tensor):
                self._know(given.untyped_storage())
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                self._count(made.untyped_storage())
        return out

    def _know(self, storage: torch.UntypedStorage) -> None:
        """An input's storage that was not counted existed before."""
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            weakref.finalize(storage, self._known.discard, key)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
