"""Augmentation of training batches."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops and mirroring; pictures are padded with black by an eighth of the shorter side.

    The padding is 4 px at 32 px, as in He et al. (2016), section 4.2. Each picture has its own random offset.

    Args:
        x: (n, channels, height, width) in [0, 1].
    """
    n, channels, height, width = x.shape
    pad = min(height, width) // 8
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    offsets = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    forward = torch.arange(width)
    columns = torch.where(mirrored[:, None], forward.flip(0), forward)
    row_index = (offsets[0][:, None] + torch.arange(height))[:, None, :, None]
    column_index = (offsets[1][:, None] + columns)[:, None, None, :]
    sample_index = torch.arange(n)[:, None, None, None]
    channel_index = torch.arange(channels)[None, :, None, None]
    return padded[sample_index, channel_index, row_index, column_index]
