"""Checkpoints: read from any usual file, checked against the model, never unpickled blindly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tbft.blocks.tensors import State, fingerprint, unshared
from tbft.errors import CheckpointError
from tbft.files import atomic_path

#: Keys under which training scripts usually wrap the state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

#: Key of a ``.safetensors`` file's metadata under which tbft writes the fingerprint of the state.
FINGERPRINT = "tbft_fingerprint"


def read_state(path: str | Path) -> State:
    """Read a state dict from ``.safetensors``, or from ``.pt``, ``.pth``, ``.th`` with ``weights_only=True``.

    Wrappers such as ``{"state_dict": ...}`` and the prefix ``module.`` are taken off.

    Raises:
        CheckpointError: missing, damaged, not a state dict, or a pickle that wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    raw = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise CheckpointError(f"{path} holds no state dict (a mapping of names to tensors)")
    state = {str(k): v for k, v in raw.items()}
    if all(k.startswith("module.") for k in state):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    return state


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a model; every key and shape has to fit.

    Raises:
        CheckpointError: with the missing and unexpected keys and the shapes that differ.
    """
    load_state(model, read_state(path), str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], name: str = "the state") -> None:
    """Load a state dict into a model; nothing is changed if it does not fit."""
    own = model.state_dict()
    state = {k: v for k, v in with_counters(state).items() if k in state or k in own}
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    differ = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    # A silent cast would make base + patch another model than the one in the file.
    cast = [
        f"{k} {state[k].dtype} instead of {own[k].dtype}"
        for k in own
        if k in state and state[k].dtype != own[k].dtype
    ]
    if missing or unexpected or differ or cast:
        lists = (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", differ),
            ("of another type", cast),
        )
        told = "; ".join(f"{len(ks)} {what}: {_some(ks)}" for what, ks in lists if ks)
        raise CheckpointError(f"{name} does not fit {type(model).__name__}: {told}")
    model.load_state_dict(state, strict=True)


def save_weights(
    state: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a state dict as ``.safetensors``, atomically, with its fingerprint, which reading it checks."""
    metadata = {**(metadata or {}), FINGERPRINT: fingerprint(state)}
    with atomic_path(path) as temporary:
        save_file(unshared(state), temporary, metadata)


def _read_safetensors(path: Path) -> State:
    try:
        state: State = load_file(path)
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(FINGERPRINT)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    if expected is not None and fingerprint(state) != expected:
        raise CheckpointError(f"{path} is damaged: its checksum does not match; get a fresh copy")
    return state


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[-1] if "GLOBAL" not in str(error) else _wanted_global(error)
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds more than tensors, which is not unpickled "
            f"because it could run code ({reason})"
        ) from error
    except Exception as error:  # a damaged archive can raise almost anything
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is refused: it is damaged or no checkpoint ({reason})") from error


def _wanted_global(error: Exception) -> str:
    line = next(part for part in str(error).splitlines() if "GLOBAL" in part)
    return line.strip().split(" was not")[0].split("Unsupported ")[-1]


def with_counters(state: Mapping[str, Tensor]) -> State:
    """The state with the BatchNorm counters that old checkpoints lack, as zero."""
    complete = {}
    for key, tensor in state.items():
        complete[key] = tensor
        counter = key.removesuffix("running_var") + "num_batches_tracked"
        if key.endswith("running_var") and counter not in state:
            complete[counter] = torch.zeros((), dtype=torch.long)
    return complete


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
