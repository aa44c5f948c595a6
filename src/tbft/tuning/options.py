"""Options of tuning that are not part of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tbft.errors import check_form
from tbft.tuning.closed_form import Prototypes
from tbft.tuning.loop import OnEpoch, OnStep
from tbft.tuning.prefix_cache import CachePolicy
from tbft.verification.task import CLASSIFICATION, Task

#: (parameters, learning rate) -> optimizer, used instead of the recipe's.
MakeOptimizer = Callable[[Sequence[nn.Parameter], float], torch.optim.Optimizer]


@dataclass(frozen=True)
class Tuning:
    """How to tune, apart from the plan.

    Attributes:
        cache: where to keep the outputs of the frozen prefix, for recipes that cache them.
        optimizer: makes the optimizer, instead of the recipe's. The learning rates of its groups follow the
            recipe's schedule in proportion.
        resume_path: file written after every epoch, which the caller removes at the end. If it exists, tuning
            resumes from it, with the same result, bit for bit, as if it had never stopped.
        on_step, on_epoch: called to report progress.
        task: the task, whose loss is minimized.
        prototypes: of the source, for the arm ``prototypes``; they are in the source card.
    """

    cache: CachePolicy | None = None
    optimizer: MakeOptimizer | None = None
    resume_path: Path | None = None
    on_step: OnStep | None = None
    on_epoch: OnEpoch | None = None
    task: Task = CLASSIFICATION
    prototypes: Prototypes | None = None

    def __post_init__(self) -> None:
        for name, function in (("progress", self.on_step), ("optimizer", self.optimizer)):
            check_form(name, function, Callable, "a function")  # type: ignore[arg-type]
