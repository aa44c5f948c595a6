"""Run a model on samples: outputs in evaluation mode, on the model's device, batch by batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.inputs import Inputs, call
from tbft.blocks.outputs import logits_of
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.precision import Computing, computing_for
from tbft.blocks.state import evaluating_alone
from tbft.data.samples import Samples
from tbft.errors import NotFiniteError

BATCH_SIZE = 256

#: What can be run: a module that returns its logits in a usual way, or blocks, which know how to call theirs.
Runnable = nn.Module | Blocks


def module_of(model: Runnable) -> nn.Module:
    """The module itself, whose state a patch changes."""
    return model.model if isinstance(model, Blocks) else model


def logits_on(model: Runnable, samples: Samples, x: Inputs) -> Any:
    """The model's outputs for a batch of samples, on its own device."""
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
