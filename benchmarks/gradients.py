"""Relative gradient norms of blocks, which other methods use for selection."""

from __future__ import annotations

import torch
from torch import nn

from tbft.blocks import Blocks
from tbft.blocks.state import flags_restored, modes_restored
from tbft.data import Samples


def relative_gradients(blocks: Blocks, samples: Samples) -> dict[str, float]:
    """Block -> norm of the loss's gradient over the norm of the weights, in evaluation mode.

    Auto-RGN of Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts" (2023),
    with all tensors of a block taken together.
    """
    model = blocks.model
    with modes_restored(model), flags_restored(model), torch.enable_grad():
        model.eval().requires_grad_(True)
        x, y = samples.batch(slice(0, len(samples)))
        nn.functional.cross_entropy(model(x), y).backward()
        norms = {}
        for block in blocks:
            own = [p for name, p in model.named_parameters() if name in block.keys]
            weights = sum(float(p.detach().square().sum()) for p in own)
            gradient = sum(float(p.grad.square().sum()) for p in own if p.grad is not None)
            norms[block.name] = (gradient / max(weights, 1e-12)) ** 0.5
    return norms
