"""The tensors of a model's state: their size, their bytes, and the fingerprint that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the keys, types, shapes and bytes of a state dict, in hex; key order is irrelevant.

    >>> fingerprint({"a": torch.zeros(2)}) == fingerprint({"a": torch.zeros(1, 2)})
    False
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key]
        digest.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's values, row by row."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def state_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors of a state dict."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
