"""Count what one training step of an arm computes and keeps, on a real step and without a clock.

Operations of the forward and backward pass come from PyTorch's own counter, which covers matrix products
and convolutions, but not BatchNorm, activations or the optimizer. The optimizer's operations are added by
formula: :data:`OPTIMIZER_FLOPS` for each trained parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks import Blocks
from tbft.blocks.precision import Computing
from tbft.blocks.state import batch_norms, evaluating, modes_restored, values_restored
from tbft.data.samples import Samples
from tbft.metering.tensor_bytes import TensorBytes
from tbft.plan import ResolvedPlan
from tbft.tuning.loop import loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.rates import AnyOptimizer

#: Additions, multiplications, divisions and roots per trained parameter and step, with weight decay and
#: momentum, from the update formulas in torch's documentation.
OPTIMIZER_FLOPS = {"sgd": 6, "adam": 15, "adamw": 15}
#: Batch sizes at which a step is counted.
SIZES = (2, 4)
#: The same for forward passes; in smaller batches, weights cast to another precision dominate.
FORWARD_SIZES = (8, 16)


@dataclass(frozen=True)
class StepCount:
    """One training step on a batch.

    Attributes:
        forward_flops, backward_flops: operations per sample; multiplications and additions count separately.
        optimizer_flops: operations of the optimizer per step, independent of the batch.
        saved_bytes: what the forward pass of the batch keeps for the backward pass, without parameters; each
            storage counts once.
        peak_bytes: peak memory of the step's tensors, including gradients and optimizer state.
    """

    forward_flops: float
    backward_flops: float
    optimizer_flops: float
    saved_bytes: int
    peak_bytes: int


def count_step(resolved: ResolvedPlan, computing: Computing, samples: Samples, batch_size: int) -> StepCount:
    """Count a step of an arm on two small batches; bytes are extrapolated linearly in the batch size."""
    recipe, stages, start = resolved.plan.recipe, resolved.stages, resolved.start
    cached = bool(recipe.computation.cache)
    prefix, part = (stages.prefix(start), stages.onward(start)) if cached else (nn.Identity(), stages.whole)
    still = replace(recipe.optimization, learning_rate=0.0)
    saved, peaks, flops = [], [], (0.0, 0.0)
    with (
        values_restored(stages.model),
        torch.random.fork_rng(devices=[]),
        resolved.only() as parameters,
    ):
        for size in SIZES:
            x, y = samples.batch(np.arange(size) % len(samples))
            with evaluating(prefix):
                x = prefix(computing.laid_out(x))
            flops = _flops(part, computing, x, y)
            saved.append(_saved_bytes(part, computing, x, y))
            optimizer = make_optimizer(still, parameters)
            peaks.append(_peak_bytes(part, computing, optimizer, x, y))
            for p in parameters:
                p.grad = None
        trained = sum(p.numel() for p in parameters)
    return StepCount(
        forward_flops=flops[0] / SIZES[-1],
        backward_flops=flops[1] / SIZES[-1],
        optimizer_flops=float(OPTIMIZER_FLOPS.get(recipe.optimization.optimizer, 0) * trained),
        saved_bytes=_at(saved, batch_size),
        peak_bytes=_at(peaks, batch_size),
    )


def count_forward(
    model: nn.Module, computing: Computing, samples: Samples, batch_size: int, adapts: bool = False
) -> int:
    """Peak bytes of the tensors in a forward pass without gradients.

    Args:
        adapts: whether BatchNorms track, as in AdaBN.
    """
    peaks = []
    for size in FORWARD_SIZES:
        x = samples.batch(np.arange(size) % len(samples))[0]
        with values_restored(model), evaluating(model), TensorBytes() as counted, computing.autocast():
            for norm in batch_norms(model) if adapts else ():
                norm.train()
            out = model(computing.laid_out(x))
        del out
        peaks.append(counted.peak)
    return _at(peaks, batch_size, FORWARD_SIZES)


def _flops(part: nn.Module, computing: Computing, x: Tensor, y: Tensor) -> tuple[float, float]:
    with FlopCounterMode(display=False) as forward:
        loss = loss_of(part, computing, x, y)
    with FlopCounterMode(display=False) as backward:
        if loss.requires_grad:
            loss.backward()
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def _saved_bytes(part: nn.Module, computing: Computing, x: Tensor, y: Tensor) -> int:
    """Bytes of the storages that autograd saves, except those of the model itself."""
    model_storages = {t.untyped_storage()._cdata for t in [*part.parameters(), *part.buffers()]}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (key := tensor.untyped_storage()._cdata) not in model_storages:
            kept[key] = tensor  # a reference, so that no other storage gets the same address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(part, computing, x, y)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _peak_bytes(part: nn.Module, computing: Computing, optimizer: AnyOptimizer, x: Tensor, y: Tensor) -> int:
    """Peak bytes of a step as in a training loop: the optimizer has its state, gradients start as None."""
    with TensorBytes() as counted:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(part, computing, x, y)
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
    return counted.peak


def _at(counts: Sequence[int], batch_size: int, sizes: tuple[int, int] = SIZES) -> int:
    """The count at another batch size, extrapolated from two counts."""
    small, large = sizes
    slope = (counts[1] - counts[0]) / (large - small)
    return int(counts[0] + slope * (batch_size - small))


@dataclass(frozen=True)
class BlockCount:
    """Operations of a block per sample; multiplications and additions count separately.

    Attributes:
        input_flops: backward pass through a frozen block, to its input; 0 for the first block.
        weight_flops: gradients of the block's weights, with everything before it frozen.
    """

    name: str
    forward_flops: float
    input_flops: float
    weight_flops: float


def count_blocks(blocks: Blocks, samples: Samples) -> list[BlockCount]:
    """Count the operations of each block."""
    x = samples.batch(np.arange(SIZES[0]) % len(samples))[0]
    counts = []
    for block in blocks:
        stage = blocks.block(block.index)
        weights = [p for p in stage.parameters() if p.requires_grad]
        with modes_restored(stage):
            stage.eval()
            with FlopCounterMode(display=False) as forward:
                out = stage(x.requires_grad_(block.index > 0))
        backward = []
        for targets in ([x] if block.index else [], weights):
            with FlopCounterMode(display=False) as counter:
                if targets and out.requires_grad:
                    torch.autograd.grad(
                        out, targets, torch.ones_like(out), retain_graph=True, allow_unused=True
                    )
            backward.append(counter.get_total_flops() / SIZES[0])
        counts.append(BlockCount(block.name, forward.get_total_flops() / SIZES[0], *backward))
        x = out.detach()
    return counts


def stage_flops(blocks: Blocks, x: Tensor) -> list[int]:
    """Operations of each block's forward pass on a batch."""
    flops = []
    with evaluating(blocks.model):
        for block in blocks:
            with FlopCounterMode(display=False) as counter:
                x = blocks.block(block.index)(x)
            flops.append(counter.get_total_flops())
    return flops
