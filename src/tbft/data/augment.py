"""Augmentation of training batches."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of the pictures padded with black by an eighth of their side, and mirroring.

    4 px at 32 px, as in He et al. (2016), section 4.2. Each picture draws its own offset.

    Args:
        x: (n, channels, side, side) in [0, 1].
    """
    n, _, side, _ = x.shape
    pad = side // 8
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    offsets = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    span = torch.arange(side)
    columns = torch.where(mirrored[:, None], span.flip(0), span)
    rows_at = (offsets[0][:, None] + span)[:, None, :, None]
    columns_at = (offsets[1][:, None] + columns)[:, None, None, :]
    samples_at = torch.arange(n)[:, None, None, None]
    channels_at = torch.arange(x.shape[1])[None, :, None, None]
    return padded[samples_at, channels_at, rows_at, columns_at]
