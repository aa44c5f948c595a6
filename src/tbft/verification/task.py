"""The task of a model: the loss that training minimizes, and the score that decides acceptance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.errors import DataError, wrong_form

Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, Tensor], Any]
Floats = npt.NDArray[np.float64]


class ScoreError(DataError):
    """A user's score raised an error, which is the cause."""


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
                else _as_tensor(self._scored(outputs, targets))
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
        with torch.no_grad():
            total = float(self._scored(outputs, targets))
        if not isfinite(total):
            raise DataError(
                f"score= is {total} for {len(targets)} samples, so nothing could be compared: it has to be a "
                "finite number (look for a division by zero, or give one number per sample)"
            )
        return total

    def total(self, outputs: Tensor, targets: Tensor) -> float:
        """The one score for all samples, which is NaN where it cannot be computed."""
        try:
            with torch.no_grad():
                return float(self._scored(outputs, targets))
        except ScoreError:  # some need samples of every class
            return nan

    def _scored(self, outputs: Tensor, targets: Tensor) -> Any:
        assert self.score is not None
        try:
            return self.score(outputs, targets)
        except Exception as error:  # the user's own score can raise anything
            raise ScoreError(
                f"score= failed for {len(targets)} samples, with outputs of shape {tuple(outputs.shape)} and "
                f"targets of shape {tuple(targets.shape)}: {type(error).__name__}: {error}"
            ) from error

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


#: Losses of torch that take logits or log-probabilities, as functions and as modules.
_KNOWN: tuple[tuple[Any, str], ...] = (
    (nn.functional.cross_entropy, "cross_entropy"),
    (nn.CrossEntropyLoss, "cross_entropy"),
    (nn.functional.nll_loss, "nll_loss"),
    (nn.NLLLoss, "nll_loss"),
    (nn.functional.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits"),
    (nn.BCEWithLogitsLoss, "binary_cross_entropy_with_logits"),
)


def known_loss(loss: Loss) -> str:
    """Which loss of torch's that applies a softmax or the like, or expects one, this is; empty for any other.

    >>> known_loss(nn.CrossEntropyLoss()), known_loss(partial(nn.functional.nll_loss, reduction="sum"))
    ('cross_entropy', 'nll_loss')
    """
    while isinstance(loss, partial):
        loss = loss.func
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    return next((name for known, name in _KNOWN if known is kind), "")


def _as_tensor(scores: Any) -> Tensor:
    try:
        return torch.as_tensor(scores)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"score= returned a {type(scores).__name__}; it has to return one number per sample, or one for "
            "all"
        ) from error


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
