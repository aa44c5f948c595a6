"""Check a user's loss and score on a few samples, before anything is tuned."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from tbft.errors import DataError
from tbft.verification.task import Floats, Loss, ScoreError, Task, correct

#: Concordance of score and negative loss below which the score has the wrong sign, and the number of pairs of
#: samples for that.
MIN_CONCORDANCE, MIN_PAIRS = -0.8, 18


def check_values(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """Check on some samples, evenly spaced over the set, that loss and scores are finite, and agree.

    One score for all may need more samples, and is not checked.

    Raises:
        DataError: they are not; the message gives the remedy.
    """
    mean = float(task.loss(outputs, targets))
    if not isfinite(mean):
        raise DataError(
            f"loss= is {mean} for {len(targets)} samples, before anything is tuned: it has to be a finite "
            "number (look for log(0) or a division by zero, and add a small number there)"
        )
    try:
        scores = task.scores(outputs, targets)
    except ScoreError as error:
        if isinstance(error.__cause__, TypeError):  # such as another number of arguments
            raise
        return  # it may need more samples, of every class
    if scores is None or task.score in (None, correct):
        return
    negative = replace(task, score=None).scores(outputs, targets)
    if negative is not None and concordance(scores, negative) < MIN_CONCORDANCE:
        raise DataError(
            f"score= is higher where loss= is higher (for {len(targets)} samples, before anything is tuned), "
            "so what tuning improves would be rejected: a higher score has to be better; return its negative"
        )


def check_gradient(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Check that a loss can be minimized.

    Raises:
        DataError: it has no gradient.
    """
    outputs, why = outputs.detach().requires_grad_(), ""
    try:
        if loss(outputs, targets).requires_grad:
            return
    except RuntimeError as error:  # such as that of numpy()
        why = f" ({error})"
    raise DataError(
        f"loss= has no gradient{why}, so nothing would be learned: argmax, item(), detach() and NumPy have "
        "none; give such a figure as score=, and a loss with a gradient"
    )


def concordance(a: Floats, b: Floats) -> float:
    """Goodman and Kruskal's gamma: how much more pairs (n,) are in the same order than in the opposite one.

    >>> concordance(np.arange(9.0), np.arange(9.0) ** 2), concordance(np.arange(9.0), np.arange(9.0) < 4)
    (1.0, -1.0)
    """
    orders = [np.sign(np.subtract.outer(v, v, dtype=np.float64)) for v in (a, b)]
    both = orders[0] * orders[1]
    return float(both.sum() / untied) if (untied := np.abs(both).sum()) >= 2 * MIN_PAIRS else 0.0


def check_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Check on two samples that a loss is one number, that of a mean, and that it pairs outputs and targets.

    Raises:
        DataError: it is not; the message gives the remedy.
    """
    mean = loss(outputs, targets)
    if not isinstance(mean, Tensor) or mean.numel() != 1:
        what = f"shape {tuple(mean.shape)}" if isinstance(mean, Tensor) else type(mean).__name__
        raise DataError(
            f"loss= returned {what} for {len(targets)} samples; it has to return one number, a tensor with "
            'the mean of the batch: reduction="mean", or .mean()'
        )
    if {outputs.ndim, targets.ndim} == {1, 2} and outputs.numel() == targets.numel():
        each = [loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(targets))]
        if not torch.allclose(mean, torch.stack(each).mean(), rtol=1e-3, atol=1e-6):
            raise DataError(
                f"loss= compares each output with all targets: outputs have the shape "
                f"{tuple(outputs.shape)}, targets {tuple(targets.shape)}; {shape_remedy(outputs, targets)}"
            )
    doubled = loss(torch.cat([outputs] * 2), torch.cat([targets] * 2))
    if mean.isfinite() and mean.abs() > 1e-12 and torch.allclose(doubled, 2 * mean, rtol=1e-3, atol=0):
        raise DataError(
            "loss= adds up the losses of a batch, so steps would grow with the size of the batch; it has to "
            'return their mean: reduction="mean", or .mean()'
        )


def shape_remedy(outputs: Tensor, targets: Tensor) -> str:
    """What to do about outputs and targets of which one is (n,) and the other (n, 1); else nothing."""
    if targets.ndim == 1 and outputs.shape == (len(targets), 1):
        return "give targets of shape (n, 1): targets.reshape(-1, 1)"
    if outputs.ndim == 1 and targets.shape == (len(outputs), 1):
        return "give targets of shape (n,): targets.reshape(-1)"
    return ""
