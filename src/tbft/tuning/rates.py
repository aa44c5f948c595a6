"""Learning rates: the schedule over the steps, and the proportions between groups of parameters."""

from __future__ import annotations

import math

import torch

from tbft.errors import PlanError, unknown
from tbft.plan.numbers import Training
from tbft.tuning.optimizers import Optimizer

#: One of ours, or a user's.
AnyOptimizer = Optimizer | torch.optim.Optimizer


def rate_at(training: Training, step: int, steps_per_epoch: int, total: int) -> float:
    """The learning rate at a step of `total`; steps count from 0."""
    return training.optimization.learning_rate * rate_factor(training, step, steps_per_epoch, total)


def rate_factor(training: Training, step: int, steps_per_epoch: int, total: int) -> float:
    """The schedule: the factor on the learning rate at a step of `total`; steps count from 0."""
    schedule = training.optimization.schedule
    kind, *numbers = schedule.split(":")
    if kind == "constant":
        return 1.0
    if kind == "step":
        every, factor = int(numbers[0]), float(numbers[1])
        return float(factor ** (step // steps_per_epoch // every))
    if kind == "one-cycle":
        rise = max(1, round(0.3 * total))
        if step < rise:
            return 0.04 + 0.96 * step / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
    raise PlanError(unknown("schedule", schedule, ["constant", "step:EPOCHS:FACTOR", "one-cycle"]))


def keep_proportions(optimizer: AnyOptimizer, learning_rate: float) -> None:
    """Record each group's learning rate relative to this one, so that :func:`set_rate` keeps the ratio."""
    for group in optimizer.param_groups:
        group.setdefault("rate_factor", float(group.get("lr", learning_rate)) / (learning_rate or 1.0))


def set_rate(optimizer: AnyOptimizer, learning_rate: float) -> None:
    """Set the learning rate of each parameter group, times the group's `rate_factor` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate_factor", 1.0)
