"""Checkpoints of an unfinished training run, tied to the run's arguments, data and initial weights."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tbft.blocks.tensors import not_finite
from tbft.errors import CheckpointError, TbftWarning, WriteError
from tbft.files import atomic_path
from tbft.schema import build
from tbft.tuning.checksummed import TRAILER_BYTES, ChecksumWriter, is_whole
from tbft.tuning.loop import EpochRecord, FitState
from tbft.tuning.rates import AnyOptimizer

PURPOSE = "resume"


def save_run(state: FitState, path: Path | None, run: Mapping[str, object]) -> None:
    """Write everything needed to resume after this epoch, if there is a path.

    The file is readable by its owner only and ends with a checksum. If it cannot be written, a warning is
    given and the run continues without it.

    Args:
        run: what two calls must have in common for one to resume the other; plain values.
    """
    if path is None:
        return
    content = {**vars(state), "history": [asdict(r) for r in state.history], "run": dict(run)}
    try:
        with atomic_path(path, private=True) as temporary, temporary.open("wb") as file:
            writer = ChecksumWriter(file, PURPOSE)
            torch.save(content, writer)  # type: ignore[arg-type]
            writer.finish()
    except WriteError as error:
        warnings.warn(f"{error}; this run cannot be resumed", TbftWarning, stacklevel=2)


def load_run(
    path: Path | None, run: Mapping[str, object], model: nn.Module, optimizer: AnyOptimizer
) -> FitState | None:
    """The state to resume from, or None if there is no file.

    Args:
        run: as in :func:`save_run`.
        model, optimizer: the model and the optimizer that the state has to fit.

    Raises:
        CheckpointError: the file is damaged, belongs to another run, or does not fit.
    """
    if path is None or not path.exists():
        return None
    remedy = "remove it, or give --restart, to start over"
    if not path.is_file() or not is_whole(path, PURPOSE):
        raise CheckpointError(f"{path} is damaged, or not a resumable checkpoint: {remedy}")
    try:
        blob = path.read_bytes()[:-TRAILER_BYTES]
        content = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
        stored, state = content.pop("run"), _fit_state(content)
        differ = [key for key in run if stored.get(key) != run[key]]
        if not differ:
            _check_fit(state, model, optimizer)
    except Exception as error:  # a file from elsewhere can raise anything
        raise CheckpointError(f"{path} is not a resumable checkpoint ({error}): {remedy}") from error
    if differ:
        raise CheckpointError(
            f"{path} belongs to another run ({', '.join(differ)} differ): repeat that run's arguments, "
            "give --restart to start over, or choose another --out"
        )
    return state


def _fit_state(content: dict[str, Any]) -> FitState:
    """The state in a file, if each part has the right type."""
    history = [build(EpochRecord, record, "its history") for record in content.pop("history")]
    for name in ("best", "model"):
        _check_state(content[name])
    state = FitState(history=history, **content)
    if not (type(state.best_epoch) is int and 0 <= state.best_epoch <= len(history)):
        raise ValueError(f"its best epoch is {state.best_epoch}")
    if type(state.steps) is not int or state.steps < 0:
        raise ValueError(f"its number of steps is {state.steps}")
    if not isinstance(state.optimizer, dict):
        raise ValueError("its optimizer is not an object")
    for generator in (state.generator, state.torch_generator):
        if generator is not None:
            torch.Generator().set_state(generator)  # raises if it cannot
    return state


def _check_fit(state: FitState, model: nn.Module, optimizer: AnyOptimizer) -> None:
    own = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    for weights in (state.model, state.best):
        if {key: (value.shape, value.dtype) for key, value in weights.items()} != own:
            raise ValueError("its weights have other names, shapes or types than the model's")
        if bad := not_finite(weights):
            raise ValueError(f"NaN or infinity in {bad[0]}")
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(copy.deepcopy(state.optimizer))
    for parameter, memory in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            if name in memory and memory[name] is not None and memory[name].shape != parameter.shape:
                raise ValueError(f"its optimizer's {name} has another shape")
    optimizer.load_state_dict(before)


def _check_state(value: Any) -> None:
    if not (isinstance(value, dict) and all(isinstance(t, torch.Tensor) for t in value.values())):
        raise ValueError("its model is not a state dict")
