"""Training of a base model from nothing, with a checkpoint after every epoch to resume from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tbft.data.samples import Samples
from tbft.errors import CheckpointError, PlanError
from tbft.evaluate import check_fits
from tbft.files import atomic_path
from tbft.models.checkpoints import fingerprint
from tbft.plan import Recipe
from tbft.tuning import EpochRecord, FitState, OnStep, check_training, explained_batch_norm, fit


def train_base(
    model: nn.Module,
    recipe: Recipe,
    train: Samples,
    val: Samples,
    seed: int = 0,
    resume_path: Path | None = None,
    on_step: OnStep | None = None,
) -> FitState:
    """Train every parameter of `model`, which ends up with the weights of the best epoch.

    Args:
        resume_path: written after every epoch; if it is there already, training goes on from it
            and ends with the same bits as if it had never stopped.

    Raises:
        CheckpointError: the file belongs to a run with other arguments, data or initial weights.
    """
    check_fits(model, train)
    check_training(train, val, recipe)
    if recipe.augment != "none" and train.inputs.ndim != 4:
        raise PlanError(f"recipe {recipe.name!r} crops and mirrors pictures; these samples are none")
    run = _identity(model, recipe, train, val, seed)
    state = _load(resume_path, run) if resume_path is not None and resume_path.exists() else None

    def keep(state: FitState) -> None:
        if resume_path is not None:
            _save(state, resume_path, run)

    model.train()
    model.requires_grad_(True)
    with torch.random.fork_rng(devices=[]), explained_batch_norm(len(train)):
        torch.manual_seed(seed)  # dropout, if any
        parameters = list(model.parameters())
        state = fit(model, parameters, recipe, recipe.learning_rate, train, val, seed, on_step, keep, state)
    model.load_state_dict(state.best)
    model.eval()
    return state


def _identity(model: nn.Module, recipe: Recipe, train: Samples, val: Samples, seed: int) -> dict[str, Any]:
    """What two calls must share for one to go on where the other stopped."""
    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "initial": fingerprint(model.state_dict()),
        "data": [_digest(train), _digest(val)],
    }


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256(samples.ids.tobytes() + samples.labels.tobytes())
    digest.update(str(samples.inputs.shape).encode())
    digest.update(samples.inputs[:64].tobytes())
    return digest.hexdigest()


def _save(state: FitState, path: Path, run: dict[str, Any]) -> None:
    content = {**vars(state), "history": [asdict(r) for r in state.history], "run": run}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _load(path: Path, run: dict[str, Any]) -> FitState:
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
