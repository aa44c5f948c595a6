"""Check that a model and samples fit each other: inputs, outputs, labels or targets, and the loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.norms import batch_dependent
from tbft.blocks.state import evaluating_alone, modes_restored, values_restored
from tbft.data.class_names import numbered_from_one
from tbft.data.labels import AS_TARGETS
from tbft.data.samples import Samples
from tbft.errors import DataError, NotFiniteError
from tbft.verification.probabilities import (
    CONFIRMED,
    are_shares,
    refuse_probabilities,
    refuse_unfit_outputs,
)
from tbft.verification.running import Runnable, logits_on, module_of
from tbft.verification.task import CLASSIFICATION, Task, known_loss
from tbft.verification.task_checks import check_gradient, check_loss, check_values, shape_remedy


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
    outputs = _outputs_on(model, samples, x)
    if task.is_classification:
        _check_logits_for(task, outputs, samples)
    if task.is_classification and known_loss(task.loss) == "cross_entropy":
        _check_logits_of_more(model, samples, outputs)
    if task != CLASSIFICATION:
        _check_loss(task, outputs, y, samples.name)
        _check_values(model, samples, task)


def _outputs_on(model: Runnable, samples: Samples, x: Tensor) -> Any:
    """What the model returns for the first samples; DataError if it cannot take them."""
    try:
        with evaluating_alone(module_of(model)):
            return logits_on(model, samples, x)
    except Exception as error:
        if samples.packing is not None:
            raise DataError(
                f"{samples.name}: the model cannot take the inputs {samples.packing} "
                f"({type(error).__name__}: {error}); name those that it takes, --keys inputs=A+B,labels=C"
            ) from error
        if not isinstance(error, (RuntimeError, ValueError)):
            raise
        size = "; if it takes pictures of another size: --resolution PX, InputSpec(resolution=PX)"
        more = size if samples.are_pictures else _other_layout(model, samples, x)
        why = f"{error}{_precision(module_of(model))}{more}"
        raise DataError(
            f"{samples.name}: the model cannot take inputs of shape {tuple(x.shape[1:])}: {why}"
        ) from error


def _other_layout(model: Runnable, samples: Samples, x: Tensor) -> str:
    """A remedy, where the model can take windows with their axes swapped."""
    if x.ndim != 3:
        return ""
    try:
        with evaluating_alone(module_of(model)):
            logits_on(model, samples, x.transpose(1, 2).contiguous())
    except Exception:
        return ""
    swapped = "x".join(map(str, (x.shape[2], x.shape[1])))
    return f"; it can take {swapped}: swap the axes, inputs.transpose(0, 2, 1)"


def _check_loss(task: Task, outputs: Any, targets: Tensor, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch only warns where shapes are broadcast
            check_loss(task.loss, outputs.float().cpu(), targets)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # the user's own loss can raise anything
        remedy = shape_remedy(outputs, targets) if isinstance(outputs, Tensor) else ""
        raise DataError(
            f"{name}: the loss cannot compare outputs of shape {_shape(outputs)} with targets of "
            f"shape {tuple(targets.shape)}: {remedy or error}"
        ) from error


def _check_values(model: Runnable, samples: Samples, task: Task) -> None:
    """Refuse a loss or a score that is not finite, before anything is tuned for it."""
    rows = np.unique(np.linspace(0, len(samples) - 1, CONFIRMED).astype(np.int64))
    x, y = samples.batch(rows)
    outputs = _outputs_on(model, samples, x).float().cpu()
    if not outputs.isfinite().all():  # which running it on all samples says better
        return
    refuse_unfit_outputs(outputs, known_loss(task.loss), samples.name, model)
    try:
        check_values(task, outputs, y)
    except DataError as error:
        raise DataError(f"{samples.name}: {error}") from error


def check_trainable(model: Runnable, samples: Samples, task: Task) -> None:
    """Refuse a loss of the user's that has no gradient.

    Raises:
        DataError: it has none.
    """
    if task == CLASSIFICATION:
        return
    x, y = samples.batch(slice(0, 2))
    outputs = _outputs_on(model, samples, x).float().cpu()
    try:
        check_gradient(task.loss, outputs, y)
    except DataError as error:
        raise DataError(f"{samples.name}: {error}") from error


def _check_logits_of_more(model: Runnable, samples: Samples, first: Tensor) -> None:
    """Refuse a model that returns probabilities, where those of the first sample are such."""
    if not are_shares(first):
        return
    outputs = _outputs_on(model, samples, samples.batch(slice(0, CONFIRMED))[0])
    if are_shares(outputs):
        refuse_probabilities(outputs, samples.name, model, _are_shares_in_training(model, samples))


def _are_shares_in_training(model: Runnable, samples: Samples) -> bool:
    """Whether the model returns probabilities in training mode, too, as far as it can be run in it."""
    module = module_of(model)
    with values_restored(module), modes_restored(module), torch.no_grad():
        module.train()
        try:
            return are_shares(logits_on(model, samples, samples.batch(slice(0, CONFIRMED))[0]))
        except (RuntimeError, ValueError):  # BatchNorm needs more than one sample
            return True


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


def _check_logits_for(task: Task, outputs: object, samples: Samples) -> None:
    """As :func:`_check_logits`; with a loss that is not for classes, the remedy may be another one."""
    try:
        _check_logits(outputs, samples)
    except NotFiniteError:
        raise
    except DataError as error:
        if known_loss(task.loss) in ("cross_entropy", "nll_loss"):
            raise
        raise DataError(f"{error}; {AS_TARGETS}") from error


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
