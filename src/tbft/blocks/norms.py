"""Normalization layers that matter when a model is adapted."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tbft.errors import SplitError


def batch_dependent(model: nn.Module) -> list[str]:
    """Names of the BatchNorms without running statistics; they normalize by the batch in evaluation, too.

    The output of such a model for a sample depends on the others in its batch, and so does its accuracy;
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
    """Raise if the output for a sample depends on its batch: a frozen prefix runs in other batches."""
    if names := batch_dependent(model):
        raise SplitError(
            f"BatchNorm keeps no running statistics in {names[0]}: the output of {type(model).__name__} for "
            "a sample depends on the others in its batch, so nothing tuned or measured would hold "
            "elsewhere; give it running statistics (track_running_stats=True, and one pass over its training "
            "data), or another normalization"
        )
