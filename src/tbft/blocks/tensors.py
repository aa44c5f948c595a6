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


def unshared(state: Mapping[str, Tensor]) -> State:
    """The tensors contiguous, each in its own memory: tied weights share theirs, which few formats support.

    >>> tied = torch.zeros(2)
    >>> a, b = unshared({"a": tied, "b": tied}).values()
    >>> a.data_ptr() == b.data_ptr()
    False
    """
    seen: set[tuple[torch.device, int]] = set()
    own = {}
    for key, tensor in state.items():
        contiguous = tensor.detach().resolve_conj().resolve_neg().contiguous()
        place = (contiguous.device, contiguous.untyped_storage().data_ptr())
        own[key] = contiguous.clone() if place in seen else contiguous
        seen.add(place)
    return own


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinity.

    >>> not_finite({"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor(3)})
    ['a']
    """
    return [name for name, tensor in tensors.items() if not _finite(tensor)]


def _finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = tensor.detach()
    wide = (
        values if values.is_complex() or values.element_size() > 1 else values.float()
    )  # float8 has no test
    return bool(torch.isfinite(wide).all())
