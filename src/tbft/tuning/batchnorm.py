"""AdaBN: BatchNorm statistics re-estimated on target samples, forward only, without labels.

Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation" (2016); the mixture with
the source statistics is that of Schneider et al. (NeurIPS 2020).
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

#: What :func:`choose_source_share` tries.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def adapt_statistics(
    model: nn.Module,
    samples: Samples,
    batch_size: int,
    source_share: float = 0.0,
    computing: Computing | None = None,
    at: npt.NDArray[np.int64] | None = None,
) -> None:
    """Replace the running statistics of every BatchNorm by those of `samples`, in place.

    One pass with cumulative averaging: each batch weighs the same, and the samples are dealt into
    batches of nearly equal size so that no small last batch distorts the average. Then
    ``statistic = source_share * source + (1 - source_share) * target`` for mean and variance.

    Modes come back as they were; whoever wants the statistics back wraps this in
    :func:`tbft.blocks.state.values_restored`.

    Args:
        computing: precision, memory layout and device; None: float32, as the samples come.
        at: positions of the samples to take; None: all.

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
                norm.momentum = None  # torch's sign for cumulative averaging
            at = np.arange(len(samples)) if at is None else at
            for part in np.array_split(at, -(-len(at) // batch_size)):
                with computing.autocast():
                    model(computing.laid_out(samples.batch(part)[0]))
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
    """The share of the source statistics with which the model fits labeled samples best.

    The target statistics are taken once; each share then costs one forward pass. AdaBN does not look
    at labels, so those of the samples it adapts to are held out. Of equal losses the smaller share wins.

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
