"""Noise on the weights of one block, strong enough to bring the model down to a given accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tbft import Blocks, Samples, TbftError, evaluate

#: Steps of the bisection; each halves the interval of the logarithm of the strength.
STEPS = 14
WEAKEST, STRONGEST = 1e-3, 10.0
#: How far the accuracy may lie from the one that was asked for.
TOLERANCE = 0.05


def add_noise(blocks: Blocks, arm: str, accuracy: float, samples: Samples, seed: int) -> float:
    """Add N(0, std) to every parameter of an arm, in place, so that the accuracy on `samples` is as given.

    The direction of the noise is drawn once. Its strength is found by bisection, on samples that are used for
    nothing else.

    Returns:
        the standard deviation.

    Raises:
        TbftError: no strength comes near that accuracy.
    """
    parameters = [p for module in blocks.tuned_modules(arm) for p in module.parameters()]
    clean = [p.detach().clone() for p in parameters]
    generator = torch.Generator().manual_seed(seed)
    # Drawn on the CPU, so that it is the same on every device.
    noise = [torch.randn(p.shape, generator=generator).to(p.device) for p in parameters]
    low, high = math.log(WEAKEST), math.log(STRONGEST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        _set(parameters, clean, noise, math.exp(middle))
        if evaluate(blocks.model, samples).score > accuracy:
            low = middle
        else:
            high = middle
    std = math.exp((low + high) / 2)
    _set(parameters, clean, noise, std)
    found = evaluate(blocks.model, samples).score
    if abs(found - accuracy) > TOLERANCE:
        raise TbftError(
            f"no noise on {arm} brings the accuracy to {accuracy:.0%}: the nearest is {found:.0%}. "
            "Leave this base out of the experiment, or give another one with --weights"
        )
    return std


@torch.no_grad()
def _set(
    parameters: Sequence[nn.Parameter], clean: Sequence[Tensor], noise: Sequence[Tensor], std: float
) -> None:
    for parameter, value, direction in zip(parameters, clean, noise, strict=True):
        parameter.copy_(value + std * direction)
