"""The one training loop, and :func:`tune`, which runs it on one arm and gives the model back untouched."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tbft.adabn import adapt_statistics
from tbft.blocks import Blocks
from tbft.data.augment import crop_flip
from tbft.data.reading import used_classes
from tbft.data.samples import Samples
from tbft.errors import DataError, PlanError, unknown
from tbft.evaluate import check_fits, evaluate
from tbft.models.checkpoints import State, tensor_bytes
from tbft.plan import Plan, Recipe
from tbft.restoring import clone_state, values_restored


@dataclass(frozen=True)
class EpochRecord:
    """One line of the learning curve."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's batches, nats
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """The outcome of tuning: the tensors that changed, and the learning curve."""

    plan: Plan
    changed: Mapping[str, Tensor]  # state-dict key -> tuned value; only what differs from the base
    history: tuple[EpochRecord, ...]
    best_epoch: int | None  # the epoch whose state was kept; None where nothing was trained


@dataclass
class FitState:
    """Everything :func:`fit` needs to go on after an epoch; holds tensors and plain values only."""

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best: State = field(default_factory=dict)
    model: State = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    generator: Tensor | None = None  # of the order of samples and of augmentation
    torch_generator: Tensor | None = None  # torch's own, which dropout draws from


OnStep = Callable[[int, int], None]  # (step done, steps in all)
OnEpoch = Callable[[FitState], None]


def tune(
    blocks: Blocks,
    plan: Plan,
    train: Samples,
    val: Samples | None = None,
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Tuned:
    """Tune one arm of a model and return what changed; the model itself comes back as it was.

    Args:
        blocks: the model, split.
        plan: arm, recipe and seed.
        train: labelled samples to tune on.
        val: held-out samples that choose the epoch to keep; needed wherever something is trained.

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    model = blocks.model
    block = blocks.block_of(plan.arm)  # raises on an unknown arm
    if plan.arm == "none":
        return Tuned(plan, {}, (), None)
    check_fits(model, train)
    if plan.arm == "adabn":
        with values_restored(model) as base, explained_batch_norm(len(train)):
            adapt_statistics(model, train, plan.recipe.batch_size, plan.source_share)
            return Tuned(plan, changed(base, clone_state(model)), (), None)
    check_training(train, val, plan.recipe)
    assert val is not None
    rate = plan.recipe.rate(rear=block is not None and block.index == len(blocks) - 1)
    with (
        values_restored(model) as base,
        torch.random.fork_rng(devices=[]),
        blocks.only(plan.arm, plan.recipe.track) as parameters,
        explained_batch_norm(len(train)),
    ):
        torch.manual_seed(plan.seed)  # for dropout and the like
        if not parameters:
            raise PlanError(f"{plan.arm!r} has no parameters to tune; choose another arm")
        state = fit(model, parameters, plan.recipe, rate, train, val, plan.seed, on_step, on_epoch)
        return Tuned(plan, changed(base, state.best), tuple(state.history), state.best_epoch)


def fit(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    recipe: Recipe,
    learning_rate: float,
    train: Samples,
    val: Samples,
    seed: int,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    state: FitState | None = None,
) -> FitState:
    """Train `parameters` and keep the epoch with the lowest validation loss.

    Works in the modes and flags that the model is in, and changes its values: callers that want
    them back say so. Given the `state` of an earlier call, it goes on where that stopped, with the
    same outcome to the bit as if it had never stopped.
    """
    optimiser = make_optimiser(recipe, parameters, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    state = FitState() if state is None else _restored(state, model, optimiser, generator)
    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)

    for epoch in range(len(state.history) + 1, recipe.epochs + 1):
        if recipe.patience is not None and epoch - state.best_epoch > recipe.patience and state.best_epoch:
            break
        total_loss = 0.0
        order = torch.randperm(len(train), generator=generator)
        for i, at in enumerate(order.split(recipe.batch_size)):
            done = (epoch - 1) * steps_per_epoch + i
            set_rate(optimiser, learning_rate * rate_factor(recipe, done, steps_per_epoch))
            x, y = train.batch(at.numpy())
            if recipe.augment == "crop-flip":
                x = crop_flip(x, generator)
            optimiser.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
            total_loss += loss.item() * len(y)
            if on_step is not None:
                on_step(done + 1, recipe.epochs * steps_per_epoch)
        measured = evaluate(model, val)
        record = EpochRecord(epoch, total_loss / len(train), measured.loss, measured.accuracy)
        if not math.isfinite(record.train_loss + record.val_loss):
            raise PlanError(f"training diverged in epoch {epoch}: use a lower --learning-rate")
        state = _after_epoch(state, record, model, optimiser, generator)
        if on_epoch is not None:
            on_epoch(state)
    return state


def make_optimiser(
    recipe: Recipe, parameters: Sequence[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The recipe's optimiser on these parameters."""
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, learning_rate, weight_decay=recipe.weight_decay)
    raise PlanError(unknown("optimiser", recipe.optimiser, ["sgd", "adam"]))


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The schedule: the factor on the learning rate at a step, counted from 0."""
    kind, *numbers = recipe.schedule.split(":")
    if kind == "constant":
        return 1.0
    if kind == "step":
        every, factor = int(numbers[0]), float(numbers[1])
        return float(factor ** (step // steps_per_epoch // every))
    if kind == "one-cycle":
        total = recipe.epochs * steps_per_epoch
        rise = max(1, round(0.3 * total))
        if step < rise:
            return 0.04 + 0.96 * step / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
    raise PlanError(unknown("schedule", recipe.schedule, ["constant", "step:EPOCHS:FACTOR", "one-cycle"]))


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


@contextmanager
def explained_batch_norm(count: int) -> Iterator[None]:
    """Turn BatchNorm's refusal of a batch of one into an error that names the remedy."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise PlanError(
            f"{count} training samples leave a last batch of one, which BatchNorm cannot normalise: "
            "give another --batch-size, or one sample more or less"
        ) from error


def changed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> State:
    """The tensors of `tuned` whose bytes differ from `base` (-0.0 differs from 0.0 here)."""
    return {k: v for k, v in tuned.items() if tensor_bytes(v) != tensor_bytes(base[k])}


def check_training(train: Samples, val: Samples | None, recipe: Recipe) -> None:
    """Raise DataError unless these samples can be trained on with this recipe."""
    if val is None or len(val) == 0:
        raise DataError(f"recipe {recipe.name!r} keeps the epoch with the lowest validation loss: give --val")
    if len(train) < recipe.batch_size:
        raise DataError(
            f"{len(train)} training samples are fewer than a batch of {recipe.batch_size}; "
            f"give more samples, or --batch-size {max(2, len(train) // 4)} or so"
        )
    if used_classes(train) < 2:
        only = train.class_names[int(train.labels[0])]
        raise DataError(
            f"all {len(train)} training samples are of the class {only!r}; two or more are needed"
        )


def _after_epoch(
    state: FitState,
    record: EpochRecord,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> FitState:
    now = clone_state(model)
    lowest = min((r.val_loss for r in state.history), default=math.inf)
    better = record.val_loss < lowest or not state.best
    return FitState(
        history=[*state.history, record],
        best_epoch=record.epoch if better else state.best_epoch,
        best=now if better else state.best,
        model=now,
        optimiser=optimiser.state_dict(),
        generator=generator.get_state(),
        torch_generator=torch.get_rng_state(),
    )


def _restored(
    state: FitState, model: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> FitState:
    model.load_state_dict(state.model)
    optimiser.load_state_dict(copy.deepcopy(state.optimiser))
    if state.generator is not None and state.torch_generator is not None:
        generator.set_state(state.generator)
        torch.set_rng_state(state.torch_generator)
    return state
