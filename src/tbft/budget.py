"""Keeping what tuning allocates within a budget: batches are made smaller, by measuring small ones first.

A smaller batch gives BatchNorm less to estimate its statistics from, so no batch goes below
:data:`LEAST_BATCH`; where even that is too much, the error says how little would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tbft.compute import autocast, laid_out
from tbft.data.samples import Samples
from tbft.memory import TensorBytes
from tbft.plan import Recipe
from tbft.restoring import evaluating, modes_restored, values_restored

LEAST_BATCH = 4
#: Kept free: what one step allocates is not quite what another does.
MARGIN = 1.08


def affordable(peak_bytes: Callable[[int], int], most: int, left_bytes: int) -> int:
    """The largest batch, up to `most`, whose peak was measured to stay within what is left; 0 if none.

    Every part of the memory is a constant plus so much a sample. So k times the batch takes at most k
    times the memory, and a larger batch is only tried where that bound allows it.

    >>> affordable(lambda batch: 1000 + 50 * batch, 64, 2500)
    25
    """
    batch = min(LEAST_BATCH, most)
    peak = MARGIN * peak_bytes(batch)
    if peak > left_bytes:
        return 0
    while (larger := min(most, int(batch * left_bytes / peak))) > batch:
        batch, peak = larger, MARGIN * peak_bytes(larger)
    return batch


def least_needed(peak_bytes: Callable[[int], int], count: int) -> int:
    """What the smallest batch takes."""
    return int(MARGIN * peak_bytes(min(LEAST_BATCH, count)))


def forward_peak(module: nn.Module, samples: Samples, precision: str) -> Callable[[int], int]:
    """Measures a forward pass without gradients, with the outputs of two others kept."""

    def peak(batch: int) -> int:
        with evaluating(module), TensorBytes() as counted, autocast(precision):
            out = module(laid_out(samples.batch(slice(0, batch))[0]))
        return counted.peak + 2 * 4 * out.numel()

    return peak


def step_peak(
    part: nn.Module,
    parameters: Sequence[nn.Parameter],
    optimiser: Callable[[], torch.optim.Optimizer],
    recipe: Recipe,
    samples: Samples,
) -> Callable[[int], int]:
    """Measures a training step, its optimiser's state included; values and modes come back."""

    def peak(batch: int) -> int:
        x, y = samples.batch(slice(0, batch))
        with values_restored(part), modes_restored(part), TensorBytes() as counted:
            _step(part, optimiser(), recipe, x, y)
        for p in parameters:
            p.grad = None
        return counted.peak

    return peak


def _step(part: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, x: Tensor, y: Tensor) -> None:
    with autocast(recipe.precision):
        logits = part(laid_out(x) if recipe.channels_last else x)
    nn.functional.cross_entropy(logits.float(), y).backward()
    optimiser.step()
