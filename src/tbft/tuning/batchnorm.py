"""AdaBN: re-estimate BatchNorm statistics on target samples, with forward passes only and without labels.

Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation" (2016); the mixture with the
source statistics follows Schneider et al. (NeurIPS 2020).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.blocks.placement import device_of
from tbft.blocks.precision import Computing
from tbft.blocks.state import batch_norms, modes_restored, values_restored
from tbft.data.samples import Samples
from tbft.errors import PlanError
from tbft.verification.evaluation import evaluate_samples
from tbft.verification.task import CLASSIFICATION, Task

#: Shares that :func:`choose_source_share` tries.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def adapt_statistics(
    model: nn.Module,
    samples: Samples,
    batch_size: int,
    source_share: float = 0.0,
    computing: Computing | None = None,
    rows: npt.NDArray[np.int64] | None = None,
) -> None:
    """Replace the running statistics of every BatchNorm by those of `samples`, in place.

    The statistics are averaged cumulatively over one pass: each batch has the same weight, so the samples are
    split into batches of nearly equal size. Then
    ``statistic = source_share * source + (1 - source_share) * target`` for mean and variance.

    Modes are restored. To restore the statistics too, use :func:`tbft.blocks.state.values_restored`.

    Args:
        computing: precision, memory layout and device; None: float32 and the layout of the samples.
        rows: positions of the samples to use; None: all.

    Raises:
        PlanError: the model has no BatchNorm with running statistics.
    """
    computing = computing or Computing(device=device_of(model))
    norms = batch_norms(model)
    if not norms:
        raise PlanError("the model has no BatchNorm with running statistics, so AdaBN has nothing to adapt")
    source = [(_mean(n).clone(), _var(n).clone()) for n in norms]
    momenta = [n.momentum for n in norms]
    counters = [None if n.num_batches_tracked is None else n.num_batches_tracked.clone() for n in norms]
    try:
        with modes_restored(model), torch.no_grad():
            model.eval()
            for norm in norms:
                norm.train()
                norm.reset_running_stats()
                norm.momentum = None  # means cumulative averaging in torch
            rows = np.arange(len(samples)) if rows is None else rows
            for batch in np.array_split(rows, -(-len(rows) // batch_size)):
                with computing.autocast():
                    model(computing.laid_out(samples.batch(batch)[0]))
    finally:
        for norm, momentum, counter in zip(norms, momenta, counters, strict=True):
            norm.momentum = momentum
            if counter is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(counter)
    for norm, (mean, var) in zip(norms, source, strict=True):
        _mean(norm).lerp_(mean, source_share)
        _var(norm).lerp_(var, source_share)


def choose_source_share(
    model: nn.Module,
    samples: Samples,
    batch_size: int,
    computing: Computing | None = None,
    task: Task = CLASSIFICATION,
) -> float:
    """The share of the source statistics that gives the lowest loss on labeled samples.

    The target statistics are computed once, and each share costs one forward pass. As AdaBN does not use
    labels, the labels of the samples it adapts to still count as held out. Of equal losses, the smaller share
    wins.

    Returns:
        one of :data:`SHARES`; 1.0 if the model has no BatchNorm.
    """
    norms = batch_norms(model)
    if not norms:
        return 1.0
    with values_restored(model):
        source = [(_mean(n).clone(), _var(n).clone()) for n in norms]
        adapt_statistics(model, samples, batch_size, 0.0, computing)
        target = [(_mean(n).clone(), _var(n).clone()) for n in norms]
        losses = {}
        for share in SHARES:
            for norm, old, new in zip(norms, source, target, strict=True):
                _mean(norm).copy_(new[0].lerp(old[0], share))
                _var(norm).copy_(new[1].lerp(old[1], share))
            losses[share] = evaluate_samples(model, samples, batch_size, task).loss
    return min(SHARES, key=lambda share: losses[share])


def _mean(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def _var(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    assert norm.running_var is not None
    return norm.running_var
