"""Compare the base and the tuned model on the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tbft.blocks.state import values_restored
from tbft.data.origin import Origin
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.verification.acceptance import Acceptance
from tbft.verification.compatibility import check_fits
from tbft.verification.decision import compare
from tbft.verification.evaluation import Evaluation, evaluation_of, targets_of
from tbft.verification.pairs import ExpectedGain
from tbft.verification.running import BATCH_SIZE, Runnable, module_of, predict
from tbft.verification.scores import judge_scores, judge_totals
from tbft.verification.task import CLASSIFICATION, Task


@contextmanager
def changed_to(model: nn.Module, changed: Mapping[str, Tensor]) -> Iterator[None]:
    """Set some entries of the model's state dict inside the context; on exit they are restored."""
    with values_restored(model):
        state = model.state_dict()
        with torch.no_grad():
            for key, value in changed.items():
                state[key].copy_(value)
        yield


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the base and the tuned model return for the same samples, each (n, outputs)."""

    samples: Samples
    before: Tensor
    after: Tensor


def run_both(
    model: Runnable, changed: Mapping[str, Tensor], samples: Samples, batch_size: int = BATCH_SIZE
) -> Outputs:
    """Run a model before and after tuning.

    Args:
        changed: state-dict key -> value that tuning changed.
    """
    before = predict(model, samples, batch_size)
    if not changed:
        return Outputs(samples, before, before)
    with changed_to(module_of(model), changed):
        return Outputs(samples, before, predict(model, samples, batch_size))


@dataclass(frozen=True)
class Rule:
    """How a tuned model is judged.

    Attributes:
        cautious: see :class:`Acceptance`.
        group_by: attribute whose values are groups of samples that are alike, for classification.
        origin, expected: see :func:`tbft.verification.decision.judge_pairs`, for classification.
    """

    cautious: bool = True
    group_by: str | None = None
    origin: Origin = "random"
    expected: ExpectedGain | None = None


def accept(held_out: Outputs, task: Task = CLASSIFICATION, rule: Rule | None = None) -> Acceptance:
    """Judge a tuned model on samples that it was not tuned on."""
    rule = rule or Rule()
    before, after = held_out.before, held_out.after
    if task == CLASSIFICATION:
        labels, predicted = held_out.samples.labels, [x.argmax(1).numpy() for x in (before, after)]
        groups = held_out.samples.attributes.get(rule.group_by or "")
        how: dict[str, Any] = {"origin": rule.origin, "expected": rule.expected}
        return compare(labels, *predicted, groups=groups, cautious=rule.cautious, **how)
    targets = targets_of(held_out.samples)
    scores = task.scores(before, targets), task.scores(after, targets)
    if scores[0] is not None and scores[1] is not None:
        return judge_scores(scores[0], scores[1], cautious=rule.cautious)
    return judge_totals(
        lambda rows: (
            task.total(before[rows], targets[rows]),
            task.total(after[rows], targets[rows]),
        ),
        len(targets),
        cautious=rule.cautious,
    )


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the base and of the tuned model on the same part of the samples."""

    before: Evaluation
    after: Evaluation
    part: Literal["test", "val", "folds"]


def evaluate_both(
    model: Runnable,
    changed: Mapping[str, Tensor],
    parts: Parts,
    task: Task = CLASSIFICATION,
    held_out: Outputs | None = None,
) -> Comparison | None:
    """Evaluate the model before and after tuning on the test part, or without one on what decided.

    Args:
        held_out: outputs for the val part or the folds, if they were run already, before the change was
            accepted or not.

    Returns:
        None if there are neither.
    """
    part: Literal["test", "val", "folds"] = "test" if len(parts.test) else "val"
    samples = parts.test if part == "test" else parts.val
    if not len(samples) and parts.folds is not None:
        part, samples = "folds", parts.train if held_out is None else held_out.samples
    if not len(samples):
        return None
    check_fits(model, samples, task)
    if part == "test" or held_out is None:
        outputs = run_both(model, changed, samples)
    else:
        outputs = held_out if changed else replace(held_out, after=held_out.before)
    before, after = (evaluation_of(o, samples, task) for o in (outputs.before, outputs.after))
    return Comparison(before, after, part)
