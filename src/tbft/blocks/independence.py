"""Whether a model's output for a sample depends on that sample alone, whatever else is in the batch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tbft.blocks.inputs import Inputs, map_tensors, tensors_of
from tbft.blocks.placement import random_restored
from tbft.blocks.state import evaluating_alone
from tbft.errors import SplitError

#: Number of samples that are run together and one by one.
COMPARED = 8

#: How far logits may differ, relative to the largest: batches of other sizes are rounded differently.
TOLERANCE = 1e-2


def refuse_dependent(model: nn.Module, run: Callable[[Inputs], Any], x: Inputs) -> None:
    """Raise if samples have different logits alone than in a batch: a frozen prefix runs in other batches.

    Args:
        run: from a batch to logits, in evaluation mode.
        x: a batch on the model's device.

    Raises:
        SplitError: they do.
    """
    if differs := difference_alone(model, run, x):
        raise SplitError(f"{dependent(model, differs)}; nothing tuned or measured would hold elsewhere")


def dependent(model: nn.Module, differs: float) -> str:
    """What is wrong, and what to look for."""
    return (
        f"the output of {type(model).__name__} for a sample depends on the others in its batch (alone, its "
        f"logits differ by up to {differs:.3g}): look for a recurrent or attention layer without "
        "batch_first=True, and for means or a softmax over dimension 0"
    )


def difference_alone(model: nn.Module, run: Callable[[Inputs], Any], x: Inputs) -> float:
    """How far logits of samples run alone differ from those of the batch; 0 if only by rounding.

    Models that draw random numbers, or cannot take a single sample, are not compared.
    """
    few = map_tensors(lambda t: t[:COMPARED], x)
    count = len(next(tensors_of(few)))
    together = _seeded(model, run, few, 0)
    if count < 2 or not _close(_seeded(model, run, few, 1), together):
        return 0.0
    ones = [map_tensors(operator.itemgetter(slice(i, i + 1)), few) for i in range(count)]
    try:
        alone = torch.cat([_seeded(model, run, one, 0) for one in ones])
    except Exception:  # some layers need more than one sample
        return 0.0
    if alone.shape != together.shape or _close(alone, together):
        return 0.0
    return (alone - together).abs().max().item()


def _seeded(model: nn.Module, run: Callable[[Inputs], Any], x: Inputs, seed: int) -> Tensor:
    """Logits from the same state of the model, which some models change whenever they are called."""
    with evaluating_alone(model), random_restored(next(tensors_of(x)).device):
        torch.manual_seed(seed)
        logits: Tensor = run(map_tensors(Tensor.clone, x))
        return logits.float()


def _close(a: Tensor, b: Tensor) -> bool:
    scale = b.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=max(TOLERANCE * scale, 1e-6), equal_nan=True)
