"""Base and tuned model side by side, on the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tbft.blocks.state import values_restored
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.verification.acceptance import Acceptance, compare, compare_scores, compare_totals
from tbft.verification.evaluation import (
    BATCH_SIZE,
    Evaluation,
    check_fits,
    evaluation_of,
    predict,
    targets_of,
)
from tbft.verification.task import CLASSIFICATION, Task


@contextmanager
def changed_to(model: nn.Module, changed: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with other values under some keys of its state dict; on exit it is as it was."""
    with values_restored(model):
        state = model.state_dict()
        with torch.no_grad():
            for key, value in changed.items():
                state[key].copy_(value)
        yield


def compare_models(
    model: nn.Module,
    changed: Mapping[str, Tensor],
    held_out: Samples,
    batch_size: int = BATCH_SIZE,
    task: Task = CLASSIFICATION,
) -> Acceptance | None:
    """Judge a tuned model on samples that neither choosing nor tuning has seen.

    Args:
        changed: what tuning changed, by key of the state dict.

    Returns:
        None where nothing was held out, or nothing changed.
    """
    if not len(held_out) or not changed:
        return None
    before, after = _both(model, changed, held_out, batch_size)
    if task == CLASSIFICATION:
        return compare(held_out.labels, before.argmax(1).numpy(), after.argmax(1).numpy())
    targets = targets_of(held_out)
    scores = task.scores(before, targets), task.scores(after, targets)
    if scores[0] is not None and scores[1] is not None:
        return compare_scores(scores[0], scores[1])
    return compare_totals(
        lambda at: (task.mean_score(before[at], targets[at]), task.mean_score(after[at], targets[at])),
        len(held_out),
    )


@dataclass(frozen=True)
class Comparison:
    """Figures of the base and of the tuned model on the same samples, and the part that these are."""

    before: Evaluation
    after: Evaluation
    part: Literal["test", "val"]


def evaluate_both(
    model: nn.Module, changed: Mapping[str, Tensor], parts: Parts, task: Task = CLASSIFICATION
) -> Comparison | None:
    """Evaluate the model as it is and with what tuning changed, on the test part.

    Without a test part, on the val part; None without either.
    """
    part: Literal["test", "val"] = "test" if len(parts.test) else "val"
    samples = parts.test if part == "test" else parts.val
    if not len(samples):
        return None
    check_fits(model, samples, task)
    before, after = _both(model, changed, samples, BATCH_SIZE)
    return Comparison(evaluation_of(before, samples, task), evaluation_of(after, samples, task), part)


def _both(
    model: nn.Module, changed: Mapping[str, Tensor], samples: Samples, batch_size: int
) -> tuple[Tensor, Tensor]:
    before = predict(model, samples, batch_size)
    if not changed:
        return before, before
    with changed_to(model, changed):
        return before, predict(model, samples, batch_size)
