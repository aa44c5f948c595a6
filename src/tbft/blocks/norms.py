"""Normalization layers that matter to whoever adapts a model."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tbft.errors import SplitError


def batch_dependent(model: nn.Module) -> list[str]:
    """Names of the BatchNorms without running statistics; they normalize by the batch in evaluation, too.

    What such a model says of a sample depends on the other samples of its batch, and so does its accuracy;
    one sample alone cannot always be passed.

    >>> batch_dependent(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.BatchNorm1d(2)))
    ['0']
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is None
    ]


def refuse_batch_dependent(model: nn.Module) -> None:
    """Raise unless what the model gives for a sample is its own: a frozen prefix runs in other batches."""
    if names := batch_dependent(model):
        raise SplitError(
            f"BatchNorm keeps no running statistics in {names[0]}: what {type(model).__name__} gives for a "
            "sample depends on the other samples of its batch, so nothing tuned or measured would hold "
            "elsewhere; give it running statistics (track_running_stats=True, and one pass over its training "
            "data), or another normalization"
        )
