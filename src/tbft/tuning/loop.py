"""The training loop."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks.precision import Computing
from tbft.blocks.state import clone_state, write_state
from tbft.blocks.tensors import State
from tbft.data.samples import Samples
from tbft.errors import DivergedError, NotFiniteError
from tbft.plan.numbers import Training
from tbft.tuning.augment import crop_flip
from tbft.tuning.rates import AnyOptimizer, rate_at, set_rate
from tbft.verification.evaluation import evaluate_samples
from tbft.verification.task import CLASSIFICATION, Loss, Task


@dataclass(frozen=True)
class EpochRecord:
    """One line of the learning curve."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's batches, nats
    val_loss: float | None  # None where the recipe does not validate
    val_accuracy: float | None


@dataclass
class FitState:
    """Everything :func:`fit` needs to resume after an epoch, as tensors and plain values.

    `optimizer` refers to the tensors of the running optimizer: copy or save it before training continues.
    """

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best: State = field(default_factory=dict)
    model: State = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    generator: Tensor | None = None  # state of the generator for sample order and augmentation
    torch_generator: Tensor | None = None  # state of torch's own generator, used by dropout
    steps: int = 0  # of the whole schedule, which a run that resumes completes


OnStep = Callable[[int, int], None]  # (steps done, steps in total)
OnEpoch = Callable[[FitState], None]


@dataclass(frozen=True)
class Run:
    """One run of the training loop.

    Attributes:
        seed: random seed.
        state: state of an earlier run to resume from; None: start from scratch.
        on_step, on_epoch: called to report progress.
        task: the task, whose loss is minimized.
    """

    seed: int = 0
    state: FitState | None = None
    on_step: OnStep | None = None
    on_epoch: OnEpoch | None = None
    task: Task = CLASSIFICATION


def fit(
    model: nn.Module,
    optimizer: AnyOptimizer,
    training: Training,
    train: Samples,
    val: Samples | None,
    run: Run,
) -> FitState:
    """Train and keep the epoch with the lowest validation loss, or the last epoch without `val`.

    Modes and flags of the model are left as they are; its values change, and callers restore them if needed.
    With the state of an earlier run, the result is the same, bit for bit, as if that had never stopped.

    Args:
        optimizer: an optimizer with the parameters to train.
    """
    generator = torch.Generator().manual_seed(run.seed)
    state = FitState() if run.state is None else _restored(run.state, model, optimizer, generator)
    steps_per_epoch = training.steps_per_epoch(len(train))
    total = state.steps or training.steps(len(train))
    loss = partial(loss_of, model, training.computing, loss=_loss_for(train, run.task))

    for epoch in range(len(state.history) + 1, -(-total // steps_per_epoch) + 1):
        if (
            training.patience is not None
            and state.best_epoch
            and epoch - state.best_epoch > training.patience
        ):
            break
        total_loss, seen, first = 0.0, 0, (epoch - 1) * steps_per_epoch
        order = torch.randperm(len(train), generator=generator)
        for done, rows in enumerate(_batches(order, training)[: total - first], start=first):
            set_rate(optimizer, rate_at(training, done, steps_per_epoch, total))
            x, y = train.batch(rows.numpy())
            if training.computation.augment == "crop-flip":
                x = crop_flip(x, generator)
            seen += len(y)
            total_loss += len(y) * _step(optimizer, partial(_gradients, loss, optimizer, training, x, y))
            if run.on_step is not None:
                run.on_step(done + 1, total)
        record = _record(epoch, total_loss / seen, model, val, run.task)
        state = _after_epoch(replace(state, steps=total), record, model, optimizer, generator)
        if run.on_epoch is not None:
            run.on_epoch(state)
    return state


def _batches(order: Tensor, training: Training) -> Sequence[Tensor]:
    """Batches of an epoch: full batches and a smaller last one, or batches of nearly equal size."""
    if training.even_batches:
        return order.tensor_split(training.steps_per_epoch(len(order)))
    return order.split(training.batch_size)


def _step(optimizer: AnyOptimizer, gradients: Callable[[], float]) -> float:
    """Take a step and return the loss; optimizers such as L-BFGS that evaluate repeatedly need a closure."""
    if isinstance(optimizer, torch.optim.Optimizer):
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            return float(optimizer.step(gradients))
    loss = gradients()
    optimizer.step()
    return loss


def _gradients(
    loss_of_batch: Callable[[Tensor, Tensor], Tensor],
    optimizer: AnyOptimizer,
    training: Training,
    x: Tensor,
    y: Tensor,
) -> float:
    """Accumulate the gradients of a batch's mean loss over its parts, and return the loss."""
    optimizer.zero_grad(set_to_none=True)
    total_loss = 0.0
    parts = -(-len(y) // training.part_size) if training.part_size else 1
    for x_part, y_part in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
        loss = loss_of_batch(x_part, y_part)
        if loss.requires_grad:  # what is tuned may be dropped from a step, by stochastic depth
            (loss * (len(y_part) / len(y))).backward()
        total_loss += loss.item() * len(y_part)
    return total_loss / len(y)


def loss_of(
    model: nn.Module,
    computing: Computing,
    x: Tensor,
    y: Tensor,
    loss: Loss = nn.functional.cross_entropy,
) -> Tensor:
    """Mean loss of a batch, on the model's device and in the given precision and memory layout."""
    with computing.autocast():
        logits = model(computing.laid_out(x))
    return loss(logits.float(), y.to(computing.device))


def _loss_for(train: Samples, task: Task) -> Loss:
    """The task's loss; of classes without labels, cross-entropy does not count the logits.

    They would only ever be wrong, so that a few epochs would unlearn these classes without any sign of it.
    """
    if task != CLASSIFICATION:
        return task.loss
    present = torch.from_numpy(np.unique(train.labels))

    def among_present(logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] > len(present):
            absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
            logits = logits.masked_fill(absent.index_fill(0, present.to(logits.device), False), -torch.inf)
        return task.loss(logits, labels)

    return among_present


def _record(epoch: int, train_loss: float, model: nn.Module, val: Samples | None, task: Task) -> EpochRecord:
    own = (
        ", or look for log(0) or a division by zero in loss=" if task.loss is not CLASSIFICATION.loss else ""
    )
    diverged = DivergedError(f"training diverged in epoch {epoch}: use a lower --learning-rate{own}")
    try:
        evaluation = None if val is None else evaluate_samples(model, val, task=task)
    except NotFiniteError as error:
        raise diverged from error
    if not math.isfinite(train_loss + (0.0 if evaluation is None else evaluation.loss)):
        raise diverged
    if evaluation is None:
        return EpochRecord(epoch, train_loss, None, None)
    return EpochRecord(epoch, train_loss, evaluation.loss, evaluation.accuracy)


def _after_epoch(
    state: FitState,
    record: EpochRecord,
    model: nn.Module,
    optimizer: AnyOptimizer,
    generator: torch.Generator,
) -> FitState:
    now = clone_state(model)
    lowest = min((r.val_loss for r in state.history if r.val_loss is not None), default=math.inf)
    better = record.val_loss is None or record.val_loss < lowest or not state.best
    return FitState(
        history=[*state.history, record],
        best_epoch=record.epoch if better else state.best_epoch,
        best=now if better else state.best,
        model=now,
        optimizer=optimizer.state_dict(),
        generator=generator.get_state(),
        torch_generator=torch.get_rng_state(),
        steps=state.steps,
    )


def _restored(
    state: FitState, model: nn.Module, optimizer: AnyOptimizer, generator: torch.Generator
) -> FitState:
    write_state(model, state.model)
    optimizer.load_state_dict(copy.deepcopy(state.optimizer))
    if state.generator is not None and state.torch_generator is not None:
        generator.set_state(state.generator)
        torch.set_rng_state(state.torch_generator)
    return state
