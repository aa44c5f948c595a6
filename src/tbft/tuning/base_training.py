"""Training of a base model from nothing, with a checkpoint after every epoch to resume from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tbft.blocks.tensors import fingerprint
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError
from tbft.plan import Recipe
from tbft.tuning.loop import FitState, OnStep, check_training, explained_batch_norm, fit
from tbft.tuning.resume import load_run, save_run
from tbft.verification.evaluation import check_fits


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
    state = load_run(resume_path, run)

    def keep(state: FitState) -> None:
        save_run(state, resume_path, run)

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
        "data": [digest(train), digest(val)],
    }
