"""How well a model does on samples: accuracy, loss, and accuracy of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks.placement import device_of, to_device
from tbft.blocks.precision import Computing, computing_for
from tbft.blocks.state import evaluating
from tbft.data.labels import numbered_from_one
from tbft.data.samples import Samples
from tbft.errors import DataError

BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on samples; fractions, not percent."""

    accuracy: float  # share of samples whose largest logit is their label
    loss: float  # mean cross-entropy in nats
    sample_count: int
    class_accuracies: dict[str, float | None]  # None where a class has no sample


def predict(model: nn.Module, samples: Samples, batch_size: int = BATCH_SIZE) -> Tensor:
    """Logits (n, classes) in evaluation mode; the model's modes come back as they were."""
    device = device_of(model)
    with evaluating(model):
        parts = (samples.batch(at)[0] for at in batches(len(samples), batch_size))
        return torch.cat([model(to_device(x, device)).float().cpu() for x in parts])


def evaluate_samples(model: nn.Module, samples: Samples, batch_size: int = BATCH_SIZE) -> Evaluation:
    """Evaluate a model on samples.

    Raises:
        DataError: the model cannot take these inputs, or has fewer outputs than there are labels.
    """
    check_fits(model, samples)
    return evaluation_of(predict(model, samples, batch_size), samples)


def evaluation_of(logits: Tensor, samples: Samples) -> Evaluation:
    """The figures that logits (n, classes) of these samples come to."""
    labels = torch.from_numpy(np.array(samples.labels))
    right = (logits.argmax(dim=1) == labels).numpy()
    return Evaluation(
        accuracy=float(right.mean()),
        loss=float(nn.functional.cross_entropy(logits, labels)),
        sample_count=len(samples),
        class_accuracies={
            name: float(right[samples.labels == c].mean()) if (samples.labels == c).any() else None
            for c, name in enumerate(samples.class_names)
        },
    )


def computing_on(
    model: nn.Module, samples: Samples, precision: str = "auto", channels_last: bool = True
) -> Computing:
    """How to compute a model on these samples: tried on the first of them, and remembered.

    See :func:`tbft.blocks.precision.computing_for`.
    """
    return computing_for(model, samples.batch(slice(0, 2))[0], precision, channels_last)


def batches(count: int, batch_size: int) -> list[slice]:
    """Slices that cover `count` samples in order.

    >>> batches(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def check_fits(model: nn.Module, samples: Samples) -> None:
    """Run one sample: the model has to take it, and to have an output for every label.

    Raises:
        DataError: it does not; the message gives both shapes.
    """
    if len(samples) == 0:
        raise DataError("a part without samples cannot be evaluated or tuned on; give it some")
    x, _ = samples.batch(slice(0, 1))
    try:
        with evaluating(model):
            logits = model(to_device(x, device_of(model)))
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{samples.name}: the model cannot take inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise DataError("the model has to return logits of shape (n, classes)")
    highest = int(samples.labels.max())
    if highest == logits.shape[1] and samples.labels.min() > 0:
        raise DataError(f"{samples.name}: {numbered_from_one(highest)}")
    if highest >= logits.shape[1]:
        raise DataError(
            f"{samples.name}: label {highest} is out of range: the model has {logits.shape[1]} outputs "
            f"(0 to {logits.shape[1] - 1})"
        )
    named = samples.class_names != tuple(str(i) for i in range(len(samples.class_names)))
    if named and len(samples.class_names) != logits.shape[1]:
        raise DataError(
            f"{samples.name} names {len(samples.class_names)} classes, the model has {logits.shape[1]} "
            "outputs, and nothing says which is which: give the model an attribute class_names"
        )
