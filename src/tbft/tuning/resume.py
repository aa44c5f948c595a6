"""Checkpoints of an unfinished training run, tied to the run's arguments, data and initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from tbft.errors import CheckpointError
from tbft.files import atomic_path
from tbft.tuning.loop import EpochRecord, FitState


def save_run(state: FitState, path: Path | None, run: Mapping[str, object]) -> None:
    """Write everything needed to go on after this epoch; nothing if there is no path.

    Args:
        run: what two calls must share for one to go on where the other stopped; plain values.
    """
    if path is None:
        return
    content = {**vars(state), "history": [asdict(r) for r in state.history], "run": dict(run)}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_run(path: Path | None, run: Mapping[str, object]) -> FitState | None:
    """The state to go on from, or None if there is no file.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run.
    """
    if path is None or not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        stored = content.pop("run")
        history = [EpochRecord(**r) for r in content.pop("history")]
        state = FitState(history=history, **content)
    except Exception as error:  # a damaged archive can raise almost anything
        raise CheckpointError(f"{path} is no checkpoint to resume from ({error}); remove it") from error
    differ = [key for key in run if stored.get(key) != run[key]]
    if differ:
        raise CheckpointError(
            f"{path} belongs to another run ({', '.join(differ)} differ): repeat that run's arguments, "
            "give --restart to start afresh, or choose another --out"
        )
    return state
