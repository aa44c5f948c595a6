"""MEMO: each test sample is predicted on its own, after one step that makes its augmented copies agree.

Zhang, Levine and Finn, "MEMO: Test Time Robustness via Adaptation and Augmentation" (NeurIPS 2022), with
the hyperparameters of the authors' code for CIFAR-10. Their network there has GroupNorm. If ours has
BatchNorm, its statistics are handled as in their networks with BatchNorm (ImageNet): the source's, mixed
with those of the batch (Schneider et al. 2020).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paper.baselines.augmix import augmented
from paper.baselines.outcome import Outcome, scored
from tbft import Blocks, Parts
from tbft.blocks.state import batch_norms, flags_restored, modes_restored, values_restored
from tbft.errors import PlanError
from tbft.plan import PSEUDO_SAMPLES
from tbft.verification.compatibility import check_fits


def memo(
    blocks: Blocks,
    parts: Parts,
    seed: int,
    max_samples: int = 200,
    learning_rate: float = 5e-3,
    copies: int = 32,
    pseudo_samples: int = PSEUDO_SAMPLES,
) -> Outcome:
    """Adapt to each test sample, predict it, and restore the model.

    One step of SGD on all parameters lowers the entropy of the mean prediction over augmented copies;
    then the sample itself is predicted. No label is used, and no other sample. This takes so long that
    only some samples of the test part are evaluated; `details` has their number and the processor time of
    each, `cpu_seconds_a_sample`.

    Args:
        seed: random seed for the choice of samples and for the augmentations.
        max_samples: samples of the test part to evaluate.
        pseudo_samples: weight of the source statistics of BatchNorms, where the sample has weight one.

    Raises:
        PlanError: the samples are not pictures with one or three channels.
    """
    model, test = blocks.model, parts.test
    check_fits(model, test)
    if not test.are_pictures or test.inputs.shape[-1] not in (1, 3):
        raise PlanError("MEMO augments pictures with one or three channels; these samples are something else")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:max_samples])
    few = test.subset(chosen)
    predicted = np.empty(len(few), np.int64)
    start = time.process_time()
    with (
        torch.random.fork_rng(devices=[]),
        values_restored(model),
        modes_restored(model),
        flags_restored(model),
    ):
        model.eval()
        model.requires_grad_(True)
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, learning_rate)
        for i in range(len(few)):
            generator = np.random.default_rng([seed, int(few.ids[i])])
            with values_restored(model), statistics_mixed(model, pseudo_samples):
                optimizer.zero_grad(set_to_none=True)
                marginal_entropy(model(augmented(few.inputs[i], copies, generator))).backward()
                optimizer.step()
                with torch.no_grad():
                    predicted[i] = int(model(few.batch([i])[0]).argmax(1))
    details = {
        "source": "Zhang et al. 2022",
        "optimizer": "sgd",
        "learning_rate": learning_rate,
        "copies": copies,
        "pseudo_samples": pseudo_samples if batch_norms(model) else None,  # None: no BatchNorm
        "samples_evaluated": len(few),
        "cpu_seconds_a_sample": (time.process_time() - start) / len(few),
    }
    return scored(predicted, few, sum(p.numel() for p in parameters), details)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the mean softmax of the rows, (n, classes) -> ().

    >>> marginal_entropy(torch.tensor([[50.0, 0.0], [0.0, 50.0]])).exp()
    tensor(2.)
    """
    log_mean = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    return -(log_mean.exp() * log_mean).sum()


@contextmanager
def statistics_mixed(model: nn.Module, pseudo_samples: int) -> Iterator[None]:
    """BatchNorms in evaluation mode normalize by ``(n * source + 1 * batch) / (n + 1)``."""
    sources = [(norm, norm.running_mean, norm.running_var) for norm in batch_norms(model)]
    mix = partial(_mix, 1 / (pseudo_samples + 1))
    handles = [norm.register_forward_pre_hook(partial(mix, mean, var)) for norm, mean, var in sources]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm, mean, var in sources:
            norm.running_mean, norm.running_var = mean, var


def _mix(
    share: float, source_mean: Tensor, source_var: Tensor, norm: _BatchNorm, inputs: tuple[Tensor, ...]
) -> None:
    """Replace the statistics by the mixture; no gradient flows through it, as in the authors' code."""
    rows = inputs[0].detach().transpose(0, 1).flatten(1)  # (channels, values)
    var, mean = torch.var_mean(rows, 1, correction=int(rows.shape[1] > 1))
    norm.running_mean = source_mean.lerp(mean, share)
    norm.running_var = source_var.lerp(var, share)
