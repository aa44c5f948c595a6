"""What a model is tuned to do: the loss that training lowers, and the score that decides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.errors import DataError, wrong_form

Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, Tensor], Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A loss to lower, and a score to raise.

    Attributes:
        loss: (outputs, targets) -> mean loss of a batch.
        score: (outputs, targets) -> one number a sample, (n,), or one number for all of them; higher is
            better. None: minus the loss of each sample.
        is_classification: targets are class numbers, and outputs are logits (n, classes).
    """

    loss: Loss
    score: Score | None
    is_classification: bool

    def scores(self, outputs: Tensor, targets: Tensor) -> Floats | None:
        """The score of each sample, (n,); None where the score is one number for all.

        Raises:
            DataError: the score is neither.
        """
        with torch.no_grad():
            found = (
                self._per_sample_loss(outputs, targets)
                if self.score is None
                else self.score(outputs, targets)
            )
        found = torch.as_tensor(found)
        if found.ndim == 1 and len(found) == len(targets):
            return found.double().cpu().numpy()
        if found.numel() == 1:
            return None
        raise DataError(
            f"score= gave numbers of shape {tuple(found.shape)} for {len(targets)} samples; "
            "return one number a sample, or one for all"
        )

    def mean_score(self, outputs: Tensor, targets: Tensor) -> float:
        """The score of all samples together."""
        each = self.scores(outputs, targets)
        if each is not None:
            return float(each.mean())
        assert self.score is not None
        with torch.no_grad():
            return float(self.score(outputs, targets))

    def _per_sample_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        each = _unreduced(self.loss)
        if each is not None:
            values = each(outputs, targets)
            if isinstance(values, Tensor) and values.ndim and len(values) == len(targets):
                return -values.flatten(1).mean(1) if values.ndim > 1 else -values
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        return torch.stack([-self.loss(output, target).detach() for output, target in pairs])


def _unreduced(loss: Loss) -> Loss | None:
    """The same loss for each sample, where it knows ``reduction`` as torch's do."""
    if isinstance(loss, nn.Module):
        return None
    try:
        known = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return None
    unreduced: Any = loss
    return partial(unreduced, reduction="none") if known else None


def right(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit is the label, (n,)."""
    return (outputs.argmax(dim=1) == targets).float()


CLASSIFICATION = Task(nn.functional.cross_entropy, right, True)


def as_task(loss: Loss | None, score: Score | None, has_targets: bool) -> Task:
    """The task that a loss and a score describe; classification by cross-entropy without them.

    Args:
        has_targets: the samples hold targets rather than class numbers.

    Raises:
        FormError: a loss or a score that cannot be called.
        DataError: targets, but no loss.
    """
    for name, function in (("loss", loss), ("score", score)):
        if function is not None and not callable(function):
            raise wrong_form(name, function, ["a function of (outputs, targets)"])
    if has_targets and loss is None:
        raise DataError(
            "these are no class labels: say by loss= what is to be lowered, such as "
            "torch.nn.functional.mse_loss"
        )
    if has_targets:
        assert loss is not None
        return Task(loss, score, False)
    return Task(loss or nn.functional.cross_entropy, score or right, True)
