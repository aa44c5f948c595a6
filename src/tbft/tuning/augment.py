"""Augmentation of training batches."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of the pictures padded with black by an eighth of the shorter side, and mirroring.

    4 px at 32 px, as in He et al. (2016), section 4.2. Each picture draws its own offset.

    Args:
        x: (n, channels, height, width) in [0, 1].
    """
    n, channels, height, width = x.shape
    pad = min(height, width) // 8
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    offsets = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    forth = torch.arange(width)
    columns = torch.where(mirrored[:, None], forth.flip(0), forth)
    rows_at = (offsets[0][:, None] + torch.arange(height))[:, None, :, None]
    columns_at = (offsets[1][:, None] + columns)[:, None, None, :]
    samples_at = torch.arange(n)[:, None, None, None]
    channels_at = torch.arange(channels)[None, :, None, None]
    return padded[samples_at, channels_at, rows_at, columns_at]
