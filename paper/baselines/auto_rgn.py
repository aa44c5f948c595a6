"""Auto-RGN: full fine-tuning, with the learning rate of each tensor scaled by its relative gradient norm.

Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts" (ICLR 2023), section 5.
Optimizer, batch size, grid of rates and what is not tuned are those of the authors' code for CIFAR-10-C.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paper.baselines.outcome import Outcome, scored
from tbft import Blocks, Parts, Recipe, Samples, find_recipe
from tbft.blocks.precision import Computing
from tbft.blocks.state import values_restored
from tbft.errors import DivergedError, PlanError
from tbft.tuning.checkpointing import statistics_still
from tbft.tuning.checks import check_training, explained_batch_norm
from tbft.tuning.loop import FitState, Run, fit, loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.verification.compatibility import check_fits
from tbft.verification.running import predict

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
#: Batches whose gradient norms are averaged before each epoch.
NORM_BATCHES = 5

#: Length, early stopping and tracking of BatchNorm statistics are those of the paper's arms.
RECIPE = find_recipe("paper").replace(
    name="auto-rgn",
    optimizer="adam",
    momentum=0.0,
    weight_decay=1e-4,
    batch_size=64,
    source="Lee et al. 2023",
)


def as_long_as(paper: Recipe) -> Recipe:
    """The recipe with the length of this one, and at most its batch size."""
    duration = paper.duration
    return RECIPE.replace(
        epochs=duration.epochs,
        patience=duration.patience,
        batch_size=min(RECIPE.duration.batch_size, duration.batch_size),
    )


def auto_rgn(
    blocks: Blocks, parts: Parts, seed: int, rates: Sequence[float] = RATES, recipe: Recipe = RECIPE
) -> Outcome:
    """Tune with every rate, and keep the one with the highest validation accuracy, as the authors do.

    For each rate, the epoch with the lowest validation loss is kept, as in our other arms.

    Before each epoch, the gradient norm of every tensor relative to the norm of the tensor, averaged over
    five batches and divided by the largest, becomes the factor on the rate of the tensor, and Adam is
    reset. The scales and shifts of BatchNorms are not tuned; their statistics follow the data.

    Args:
        rates: the rates to search, each with its own training.

    Raises:
        PlanError, DataError: there is nothing to train or to validate on.
        DivergedError: training diverges at every rate.
    """
    model, test = blocks.model, parts.test
    check_fits(model, parts.train)
    check_fits(model, test)
    recipe = recipe.replace(batch_size=min(recipe.duration.batch_size, len(parts.train)))
    check_training(parts.train, parts.val, recipe, recipe.training(len(parts.train)))
    tensors = scaled_tensors(model)
    searched: dict[str, float | None] = {}
    best: tuple[float, float, FitState] | None = None
    for rate in rates:
        state = _fitted(blocks, tensors, parts, recipe, rate, seed)
        accuracy = None if state is None else state.history[state.best_epoch - 1].val_accuracy
        searched[f"{rate:g}"] = accuracy
        if state is not None and accuracy is not None and (best is None or accuracy > best[0]):
            best = accuracy, rate, state
    if best is None:
        raise DivergedError(f"training diverged at every rate: {', '.join(searched)}")
    _, rate, state = best
    with values_restored(model):
        model.load_state_dict(state.best)
        predicted = predict(model, test).argmax(1).numpy()
    details = {
        "source": recipe.source,
        "optimizer": recipe.optimization.optimizer,
        "weight_decay": recipe.optimization.weight_decay,
        "batch_size": recipe.duration.batch_size,
        "learning_rate": rate,
        "searched": searched,  # rate -> validation accuracy, None where training diverged
        "best_epoch": state.best_epoch,
        "samples_evaluated": len(test),
    }
    return scored(predicted, test, sum(p.numel() for p in tensors), details, tuple(state.history))


def scaled_tensors(model: nn.Module) -> list[nn.Parameter]:
    """What is tuned: all parameters except those of BatchNorms.

    Raises:
        PlanError: there are none.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
    tensors = [p for p in model.parameters() if id(p) not in norms]
    if not tensors:
        raise PlanError(
            "Auto-RGN tunes all parameters except those of BatchNorms, and this model has no others"
        )
    return tensors


def rate_factors(gradient_norms: Sequence[float], norms: Sequence[float]) -> list[float]:
    """Relative gradient norms over the largest of them.

    A tensor of zeros, such as a new bias, has no relative norm and keeps the whole rate.

    >>> rate_factors([1.0, 2.0, 5.0], [1.0, 8.0, 0.0])
    [1.0, 0.25, 1.0]
    """
    relative = [g / n if n else None for g, n in zip(gradient_norms, norms, strict=True)]
    largest = max((r for r in relative if r is not None), default=0.0)
    return [1.0 if r is None or not largest else r / largest for r in relative]


def _fitted(
    blocks: Blocks, tensors: list[nn.Parameter], parts: Parts, recipe: Recipe, rate: float, seed: int
) -> FitState | None:
    """One training; None if it diverges. The model is restored."""
    model, train = blocks.model, parts.train
    order = torch.Generator().manual_seed(seed)  # of the batches for the norms
    with (
        values_restored(model),
        torch.random.fork_rng(devices=[]),
        blocks.only("full", recipe.tracking.track),
        explained_batch_norm(len(train)),
    ):
        torch.manual_seed(seed)  # for dropout and the like
        model.requires_grad_(False)
        for p in tensors:
            p.requires_grad_(True)
        training = recipe.replace(learning_rate=rate).training(len(train))
        optimizer = make_optimizer(training.optimization, [{"params": [p]} for p in tensors])

        def rescale(state: FitState) -> None:
            if len(state.history) == training.epochs:
                return
            optimizer.state.clear()
            factors = rate_factors(_gradient_norms(model, tensors, recipe, train, order), _norms(tensors))
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["rate_factor"] = factor

        rescale(FitState())
        try:
            return fit(model, optimizer, training, train, parts.val, Run(seed, on_epoch=rescale))
        except DivergedError:
            return None


def _gradient_norms(
    model: nn.Module, tensors: list[nn.Parameter], recipe: Recipe, train: Samples, order: torch.Generator
) -> list[float]:
    """Norm of the gradient of each tensor, averaged over some batches, without moving any statistics."""
    batches = torch.randperm(len(train), generator=order).split(recipe.duration.batch_size)
    few = [at for at in batches if len(at) == recipe.duration.batch_size][:NORM_BATCHES]
    totals = torch.zeros(len(tensors))
    with statistics_still(model):
        for at in few:
            loss = loss_of(model, Computing(), *train.batch(at.numpy()))
            gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
            totals += torch.tensor([0.0 if g is None else float(g.norm()) for g in gradients])
    return (totals / len(few)).tolist()


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    return [float(p.detach().norm()) for p in tensors]
