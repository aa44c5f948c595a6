"""TENT: the entropy of the predictions is minimized at test time, without labels.

Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization" (ICLR 2021), with the hyperparameters
of the authors' code for CIFAR-10-C.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paper.baselines.outcome import Outcome, scored
from tbft import Blocks, Parts
from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.errors import PlanError
from tbft.verification.compatibility import check_fits


def tent(
    blocks: Blocks, parts: Parts, seed: int, learning_rate: float = 1e-3, batch_size: int = 200
) -> Outcome:
    """Stream the test part through the model once, adapting it along the way.

    BatchNorms normalize by the statistics of each batch. After a batch is predicted, one step of Adam on
    the scales and shifts of the BatchNorms lowers the mean entropy of these predictions, which helps only
    the batches that follow. So, by design, the method learns from the inputs of the test part. It uses no
    label, and neither `parts.train` nor `parts.val`.

    Args:
        seed: random seed for the order of the stream; sets sorted by class would defeat the method.
        batch_size: largest batch; batches are as even as possible, so that no small one comes last.

    Raises:
        PlanError: the model has no BatchNorm with scale and shift, or there is only one test sample.
    """
    model, test = blocks.model, parts.test
    check_fits(model, test)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.affine]
    if not norms:
        raise PlanError("TENT tunes the scales and shifts of BatchNorms, and this model has none")
    if len(test) < 2:
        raise PlanError("TENT normalizes by the statistics of a batch: give at least two test samples")
    order = np.random.default_rng(seed).permutation(len(test))
    predicted = np.empty(len(test), np.int64)
    with values_restored(model), modes_restored(model), flags_restored(model):
        parameters = _only_norms(model, norms)
        optimizer = torch.optim.Adam(parameters, learning_rate)
        for at in np.array_split(order, -(-len(test) // batch_size)):
            logits = model(test.batch(at)[0])
            predicted[at] = logits.argmax(1).numpy()
            optimizer.zero_grad(set_to_none=True)
            entropy(logits).mean().backward()
            optimizer.step()
    details = {
        "source": "Wang et al. 2021",
        "optimizer": "adam",
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "samples_evaluated": len(test),
    }
    return scored(predicted, test, sum(p.numel() for p in parameters), details)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the softmax of each row, (n, classes) -> (n,).

    >>> entropy(torch.zeros(1, 4)).exp()
    tensor([4.])
    """
    log_probabilities = logits.log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


def _only_norms(model: nn.Module, norms: list[_BatchNorm]) -> list[nn.Parameter]:
    """Make scales and shifts trainable, and every BatchNorm normalize by the batch."""
    model.requires_grad_(False)
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    parameters = list(chain.from_iterable(norm.parameters() for norm in norms))
    for p in parameters:
        p.requires_grad_(True)
    return parameters
