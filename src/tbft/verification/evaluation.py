"""Evaluate a model on samples: accuracy, loss, score, and accuracy of each class."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.independence import COMPARED, dependent, difference_alone
from tbft.blocks.inputs import Inputs, call
from tbft.blocks.norms import batch_dependent
from tbft.blocks.outputs import logits_of
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.precision import Computing, computing_for
from tbft.blocks.state import evaluating_alone
from tbft.data.class_names import numbered_from_one
from tbft.data.samples import Samples
from tbft.errors import DataError, NotFiniteError, TbftWarning
from tbft.verification.probabilities import CONFIRMED, are_shares, refuse_probabilities
from tbft.verification.task import CLASSIFICATION, Task, check_loss, shape_remedy

BATCH_SIZE = 256

#: What can be run: a module that returns its logits in a usual way, or blocks, which know how to call theirs.
Runnable = nn.Module | Blocks


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


def module_of(model: Runnable) -> nn.Module:
    """The module itself, whose state a patch changes."""
    return model.model if isinstance(model, Blocks) else model


def logits_on(model: Runnable, samples: Samples, x: Inputs) -> Any:
    """What the model gives for a batch of samples, on its own device."""
    x = to_device(x, device_of(module_of(model)))
    if isinstance(model, Blocks):
        return model.whole(x)
    if samples.packing is not None and isinstance(x, Tensor):
        x = samples.packing.unpack(x)
    return logits_of(call(model, x))


def predict(model: Runnable, samples: Samples, batch_size: int = BATCH_SIZE) -> Tensor:
    """Outputs of the model in evaluation mode, for classifiers logits (n, classes); modes are restored.

    Raises:
        NotFiniteError: some outputs are NaN or infinite, so that figures would be meaningless.
    """
    with evaluating_alone(module_of(model)):
        inputs = (samples.batch(rows)[0] for rows in batches(len(samples), batch_size))
        predicted = torch.cat([logits_on(model, samples, x).float().cpu() for x in inputs])
    check_finite(predicted, samples)
    return predicted


def check_finite(outputs: Tensor, samples: Samples) -> None:
    """Raise NotFiniteError if a model's outputs (n, ...) on these samples contain NaN or infinity."""
    bad = (~outputs.reshape(len(outputs), -1).isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise NotFiniteError(
            f"{samples.name}: the model gives NaN or infinity for {len(bad)} of {len(outputs)} samples, "
            f"the first is sample {int(samples.ids[bad[0]])}: check the inputs, and the model's "
            "normalization and weights"
        )


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
    """Warn if what the model gives for a sample depends on the other samples of its batch."""
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


def computing_on(
    model: nn.Module, samples: Samples, precision: str = "auto", channels_last: bool = True
) -> Computing:
    """How to run a model on these samples, tried once on the first ones.

    See :func:`tbft.blocks.precision.computing_for`.
    """
    return computing_for(model, samples.batch(slice(0, 2))[0], precision, channels_last)


def batches(count: int, batch_size: int) -> list[slice]:
    """Slices that cover `count` samples in order.

    >>> batches(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def check_fits(model: Runnable, samples: Samples, task: Task = CLASSIFICATION) -> None:
    """Check on the first sample that the model takes it, and that its outputs fit the labels or targets.

    Raises:
        DataError: they do not fit; the message gives both shapes.
    """
    if len(samples) == 0:
        raise DataError("a part without samples cannot be used for evaluation or tuning; give it some")
    if isinstance(model, Blocks) and model.packing != samples.packing:
        raise DataError(
            f"{samples.name}: the samples hold {samples.packing or 'one array'}, and the model was split for "
            f"{model.packing or 'one tensor'}: give the module itself, or split it with an example of them"
        )
    # BatchNorm without running statistics may need more than one sample.
    count = 1 if task == CLASSIFICATION and not batch_dependent(module_of(model)) else 2
    x, y = samples.batch(slice(0, count))
    try:
        with evaluating_alone(module_of(model)):
            outputs = logits_on(model, samples, x)
    except Exception as error:
        if samples.packing is not None:
            raise DataError(
                f"{samples.name}: the model cannot take the inputs {samples.packing} "
                f"({type(error).__name__}: {error}); name those that it takes, --keys inputs=A+B,labels=C"
            ) from error
        if not isinstance(error, (RuntimeError, ValueError)):
            raise
        size = "; if it takes pictures of another size: --resolution PX, InputSpec(resolution=PX)"
        why = f"{error}{_precision(module_of(model))}{size if samples.are_pictures else ''}"
        raise DataError(
            f"{samples.name}: the model cannot take inputs of shape {tuple(x.shape[1:])}: {why}"
        ) from error
    if task.is_classification:
        _check_logits(outputs, samples)
    if task == CLASSIFICATION:
        _check_logits_of_more(model, samples, outputs)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch only warns where shapes are broadcast
            check_loss(task.loss, outputs.float().cpu(), y)
    except DataError as error:
        raise DataError(f"{samples.name}: {error}") from error
    except Exception as error:  # the user's own loss can raise anything
        remedy = shape_remedy(outputs, y) if isinstance(outputs, Tensor) else ""
        raise DataError(
            f"{samples.name}: the loss cannot compare outputs of shape {_shape(outputs)} with targets of "
            f"shape {tuple(y.shape)}: {remedy or error}"
        ) from error


def _check_logits_of_more(model: Runnable, samples: Samples, first: Tensor) -> None:
    """Refuse a model that returns probabilities, where those of the first sample are such."""
    if not are_shares(first):
        return
    x = samples.batch(slice(0, CONFIRMED))[0]
    with evaluating_alone(module_of(model)):
        outputs = logits_on(model, samples, x)
    if are_shares(outputs):
        refuse_probabilities(outputs, samples.name, model)


def _precision(model: nn.Module) -> str:
    """A remedy, where the model is in another precision than its inputs."""
    other = [p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32]
    return f"; its parameters are {other[0]}, inputs are float32: call model.float()" if other else ""


def _shape(outputs: object) -> object:
    return tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__


#: What makes two logits of one.
_ONE_OUTPUT = (
    "the model gives one number per sample: for two classes give tbft.split(model, output=lambda z: "
    "torch.stack([0 * z.flatten(), z.flatten()], 1)) if that is a logit, or output=lambda p: "
    "torch.stack([1 - p.flatten(), p.flatten()], 1).clamp(1e-6).log() if it is a probability"
)


def _check_logits(logits: object, samples: Samples) -> None:
    if isinstance(logits, Tensor) and logits.shape in ((1,), (1, 1)) and set(samples.labels) <= {0, 1}:
        raise DataError(f"{samples.name}: logits have the shape (n, classes), and {_ONE_OUTPUT}")
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise DataError(
            f"the model has to return logits of shape (n, classes), and returns {_shape(logits)} for one "
            "sample (squeeze() drops the batch of one, flatten(1) does not); for other tasks give loss="
        )
    if not logits.is_meta and not logits.isfinite().all():
        raise NotFiniteError(
            f"{samples.name}: the model gives NaN or infinity for the first sample, so nothing can be tuned"
        )
    highest = int(samples.labels.max())
    if highest == logits.shape[1] and samples.labels.min() > 0:
        raise DataError(f"{samples.name}: {numbered_from_one(highest)}")
    if highest >= logits.shape[1]:
        raise DataError(
            f"{samples.name}: label {highest} is out of range: the model has {logits.shape[1]} outputs "
            f"(0 to {logits.shape[1] - 1}); classes that it does not know are added by --new-classes, "
            "tbft.add_classes"
        )
    named = samples.class_names != tuple(str(i) for i in range(len(samples.class_names)))
    if named and len(samples.class_names) != logits.shape[1]:
        raise DataError(
            f"{samples.name} names {len(samples.class_names)} classes, but the model has {logits.shape[1]} "
            "outputs, and it is not known which is which: give the model an attribute class_names"
        )
