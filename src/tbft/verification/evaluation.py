"""Evaluate a model on samples: accuracy, loss, score, and accuracy of each class."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tbft.blocks.independence import COMPARED, dependent, difference_alone
from tbft.blocks.norms import batch_dependent
from tbft.data.samples import Samples
from tbft.errors import TbftWarning
from tbft.verification.compatibility import check_fits
from tbft.verification.running import BATCH_SIZE, Runnable, logits_on, module_of, predict
from tbft.verification.task import CLASSIFICATION, Task


@dataclass(frozen=True)
class Evaluation:
    """How a model performs on samples; accuracies are fractions from 0 to 1.

    Attributes:
        accuracy: share of samples whose largest logit is their label; None for other tasks.
        loss: mean loss of the task; for classification the cross-entropy in nats.
        class_accuracies: class -> accuracy; None for a class without samples.
        score: mean score of the task, higher is better; for classification the accuracy.
    """

    accuracy: float | None
    loss: float
    sample_count: int
    class_accuracies: dict[str, float | None]
    score: float


def evaluate_samples(
    model: Runnable, samples: Samples, batch_size: int = BATCH_SIZE, task: Task = CLASSIFICATION
) -> Evaluation:
    """Evaluate a model on samples.

    Raises:
        DataError: the model cannot take these inputs, or has fewer outputs than there are labels.
    """
    check_fits(model, samples, task)
    return evaluation_of(predict(model, samples, batch_size), samples, task)


def warn_if_dependent(model: Runnable, samples: Samples) -> None:
    """Warn if the model's output for a sample depends on the others in its batch."""
    module = module_of(model)
    if batch_dependent(module):  # noted already
        return
    x = samples.batch(slice(0, COMPARED))[0]
    differs = difference_alone(module, lambda x: logits_on(model, samples, x), x)
    if differs:
        warnings.warn(
            f"{dependent(module, differs)}; its accuracy depends on them, too", TbftWarning, stacklevel=3
        )


def evaluation_of(outputs: Tensor, samples: Samples, task: Task = CLASSIFICATION) -> Evaluation:
    """Evaluate a model's outputs (n, ...) on these samples."""
    targets = targets_of(samples)
    loss, score = float(task.loss(outputs, targets)), task.mean_score(outputs, targets)
    if not task.is_classification:
        return Evaluation(None, loss, len(samples), {}, score)
    correct = (outputs.argmax(dim=1) == targets).numpy()
    return Evaluation(
        accuracy=float(correct.mean()),
        loss=loss,
        sample_count=len(samples),
        class_accuracies={
            name: float(correct[samples.labels == c].mean()) if (samples.labels == c).any() else None
            for c, name in enumerate(samples.class_names)
        },
        score=score,
    )


def targets_of(samples: Samples) -> Tensor:
    """The class numbers (n,), or the targets (n, ...) of other tasks."""
    return torch.from_numpy(np.array(samples.labels if samples.targets is None else samples.targets))
