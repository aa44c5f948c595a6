"""Train a base model from scratch, with a checkpoint after every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tbft.blocks.state import write_state
from tbft.blocks.tensors import fingerprint
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError
from tbft.plan import Recipe
from tbft.tuning.checks import check_training, explained_batch_norm
from tbft.tuning.loop import FitState, Run, fit
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.resume import load_run, save_run
from tbft.verification.compatibility import check_fits
from tbft.verification.running import computing_on


def train_base(
    model: nn.Module,
    recipe: Recipe,
    train: Samples,
    val: Samples,
    run: Run | None = None,
    resume_path: Path | None = None,
) -> FitState:
    """Train every parameter of `model` that is not frozen; it ends up with the weights of the best epoch.

    Args:
        run: random seed, and functions called to report progress.
        resume_path: file written after every epoch. If it exists, training resumes from it, with the same
            result, bit for bit, as if it had never stopped.

    Raises:
        CheckpointError: the file belongs to a run with other arguments, data or initial weights.
    """
    run, training = run or Run(), recipe.training(len(train))
    check_fits(model, train)
    check_training(train, val, recipe, training)
    augment, wanted = recipe.computation.augment, recipe.computation
    computing = computing_on(model, train, wanted.precision, wanted.channels_last)
    training = replace(training, computing=computing)
    if augment != "none" and train.inputs.ndim != 4:
        raise PlanError(f"recipe {recipe.name!r} crops and mirrors pictures, but these are not pictures")
    identity = {} if resume_path is None else _identity(model, recipe, train, val, run.seed)

    def keep(state: FitState) -> None:
        save_run(state, resume_path, identity)

    model.train()
    optimizer = make_optimizer(training.optimization, [p for p in model.parameters() if p.requires_grad])
    run = replace(run, state=load_run(resume_path, identity, model, optimizer), on_epoch=keep)
    with torch.random.fork_rng(devices=computing.random_devices), explained_batch_norm(len(train)):
        torch.manual_seed(run.seed)  # for dropout and the like
        state = fit(model, optimizer, training, train, val, run)
    write_state(model, state.best)
    model.eval()
    return state


def _identity(model: nn.Module, recipe: Recipe, train: Samples, val: Samples, seed: int) -> dict[str, Any]:
    """What two calls must have in common for one to resume the other."""
    return {
        "recipe": recipe.to_json(),
        "seed": seed,
        "initial": fingerprint(model.state_dict()),
        "data": [digest(train), digest(val)],
    }
