"""The task of a model: the loss that training minimizes, and the score that decides acceptance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.errors import DataError, wrong_form

Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, Tensor], Any]
Floats = npt.NDArray[np.float64]

#: Concordance of score and negative loss below which the score has the wrong sign, and the number of pairs of
#: samples for that.
MIN_CONCORDANCE, MIN_PAIRS = -0.8, 18


@dataclass(frozen=True)
class Task:
    """A loss to minimize and a score to maximize.

    Attributes:
        loss: (outputs, targets) -> mean loss of a batch.
        score: (outputs, targets) -> a number for each sample, (n,), or one number for all; higher is better.
            None: the negative loss of each sample.
        is_classification: whether targets are class numbers and outputs are logits (n, classes).
    """

    loss: Loss
    score: Score | None
    is_classification: bool

    def scores(self, outputs: Tensor, targets: Tensor) -> Floats | None:
        """The score of each sample, (n,); None if the score is one number for all.

        Raises:
            DataError: the score is neither, or NaN or infinite for some samples.
        """
        with torch.no_grad():
            scores = (
                self._negative_losses(outputs, targets)
                if self.score is None
                else _as_tensor(self.score(outputs, targets))
            )
        if scores.ndim == 1 and len(scores) == len(targets):
            self._check_finite(scores)
            return scores.double().cpu().numpy()
        if scores.numel() == 1:
            return None
        raise DataError(
            f"score= returned shape {tuple(scores.shape)} for {len(targets)} samples; "
            "it has to return one number per sample, or one for all"
        )

    def mean_score(self, outputs: Tensor, targets: Tensor) -> float:
        """The mean score of the samples, or the one score for all.

        Raises:
            DataError: as :meth:`scores`; also if the one score is NaN or infinite.
        """
        scores = self.scores(outputs, targets)
        if scores is not None:
            return float(scores.mean())
        total = self.total(outputs, targets)
        if not isfinite(total):
            raise DataError(
                f"score= is {total} for {len(targets)} samples, so nothing could be compared: it has to be a "
                "finite number (look for a division by zero, or give one number per sample)"
            )
        return total

    def total(self, outputs: Tensor, targets: Tensor) -> float:
        """The one score for all samples, which is NaN where it cannot be computed."""
        assert self.score is not None
        with torch.no_grad():
            return float(self.score(outputs, targets))

    def _check_finite(self, scores: Tensor) -> None:
        bad = (~scores.isfinite()).nonzero().flatten().tolist()
        if not bad:
            return
        what, remedy = "score=", "it has to be a finite number (look for a division by zero, or log(0))"
        if self.score is None:
            what, remedy = "loss=, of single samples,", "give score=, a finite number for every sample"
        raise DataError(
            f"{what} is NaN or infinite for {len(bad)} of {len(scores)} samples (the first is number "
            f"{bad[0]}), so nothing could be compared: {remedy}"
        )

    def _negative_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative loss of each sample, (n,)."""
        unreduced = _unreduced(self.loss)
        if unreduced is not None:
            losses = unreduced(outputs, targets)
            if isinstance(losses, Tensor) and losses.ndim and len(losses) == len(targets):
                return -losses.flatten(1).mean(1) if losses.ndim > 1 else -losses
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        return torch.stack([-self.loss(output, target).detach() for output, target in pairs])


def applies_softmax(loss: Loss) -> bool:
    """Whether a loss is a cross-entropy of torch's, which takes logits."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss is nn.functional.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)


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
    except DataError:
        raise
    except Exception:  # a score of one's own may need more samples, of every class
        return
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


def _as_tensor(scores: Any) -> Tensor:
    try:
        return torch.as_tensor(scores)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"score= returned a {type(scores).__name__}; it has to return one number per sample, or one for "
            "all"
        ) from error


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


def _unreduced(loss: Loss) -> Loss | None:
    """The loss without reduction, if it has the parameter ``reduction`` as torch's losses do."""
    if isinstance(loss, nn.Module):
        return None
    try:
        reducible = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return None
    reduced: Any = loss
    return partial(reduced, reduction="none") if reducible else None


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit is the label, else 0, (n,)."""
    return (outputs.argmax(dim=1) == targets).float()


CLASSIFICATION = Task(nn.functional.cross_entropy, correct, True)


def as_task(loss: Loss | None, score: Score | None, has_targets: bool) -> Task:
    """The task given by a loss and a score; by default, classification with cross-entropy.

    Args:
        has_targets: whether samples have targets instead of class numbers.

    Raises:
        FormError: a loss or a score that cannot be called.
        DataError: the samples have targets, but there is no loss.
    """
    for name, function in (("loss", loss), ("score", score)):
        if function is not None and not callable(function):
            raise wrong_form(name, function, ["a function of (outputs, targets)"])
    if has_targets and loss is None:
        raise DataError(
            "these targets are not class labels: give the loss to minimize by loss=, such as "
            "torch.nn.functional.mse_loss"
        )
    if has_targets:
        assert loss is not None
        return Task(loss, score, False)
    return Task(loss or nn.functional.cross_entropy, score or correct, True)
