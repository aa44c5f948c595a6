"""What one training step of an arm computes and keeps, counted on the real step: no clock is involved.

Operations of forward and backward pass come from PyTorch's own counter, which knows products of matrices
and convolutions; BatchNorm, activations and the optimizer are not in it. The optimizer's are added by
formula, :data:`OPTIMIZER_FLOPS` for each number trained.
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
from tbft.tuning.loop import loss_of, make_optimizer

#: Additions, multiplications, divisions and roots for each trained number and step, weight decay and momentum
#: included, read off the update formulas in torch's documentation.
OPTIMIZER_FLOPS = {"sgd": 6, "adam": 15, "adamw": 15}
SIZES = (2, 4)
FORWARD_SIZES = (8, 16)  # in smaller ones it is weights in another precision that take most


@dataclass(frozen=True)
class StepCount:
    """One training step on a batch.

    Attributes:
        forward_flops, backward_flops: of a sample, multiplications and additions apart.
        optimizer_flops: of the step, whatever the batch.
        saved_bytes: of what the forward pass keeps for the backward pass, parameters apart: each storage
            once, a whole batch.
        peak_bytes: most that the step's tensors take at a time, gradients and optimizer's state included.
    """

    forward_flops: float
    backward_flops: float
    optimizer_flops: float
    saved_bytes: int
    peak_bytes: int


def count_step(resolved: ResolvedPlan, computing: Computing, samples: Samples, batch_size: int) -> StepCount:
    """Count a step of an arm on two small batches; bytes grow linearly with the batch from there."""
    recipe, stages, start = resolved.plan.recipe, resolved.stages, resolved.start
    cached = bool(recipe.computation.cache)
    prefix, part = (stages.prefix(start), stages.onward(start)) if cached else (nn.Identity(), stages.model)
    still = replace(recipe.optimization, learning_rate=0.0)
    saved, peaks, flops = [], [], (0.0, 0.0)
    with (
        values_restored(stages.model),
        torch.random.fork_rng(devices=[]),
        resolved.blocks.only(resolved.plan.arm, resolved.track) as parameters,
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
    """Most bytes that the tensors of a forward pass without gradients take at a time.

    Args:
        adapts: BatchNorms track, as in AdaBN.
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
        loss.backward()
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def _saved_bytes(part: nn.Module, computing: Computing, x: Tensor, y: Tensor) -> int:
    """Bytes of the storages that autograd saves; the model's own tensors are there anyway."""
    own = {t.untyped_storage()._cdata for t in [*part.parameters(), *part.buffers()]}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (key := tensor.untyped_storage()._cdata) not in own:
            kept[key] = tensor  # held on to, so that no other storage takes the same address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(part, computing, x, y)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _peak_bytes(
    part: nn.Module, computing: Computing, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> int:
    """As a training loop has it: the optimizer's state is there, and the step before left no gradients."""
    with TensorBytes() as counted:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss_of(part, computing, x, y).backward()
            optimizer.step()
    return counted.peak


def _at(counts: Sequence[int], batch_size: int, sizes: tuple[int, int] = SIZES) -> int:
    """The count at another batch size, on the line through the two that were counted."""
    small, large = sizes
    slope = (counts[1] - counts[0]) / (large - small)
    return int(counts[0] + slope * (batch_size - small))


@dataclass(frozen=True)
class BlockCount:
    """Operations of a block for one sample, multiplications and additions apart."""

    name: str
    forward_flops: float
    input_flops: float  # of the backward pass that a frozen block takes part in; none for the first
    weight_flops: float  # of the gradients of its weights, where what comes before is frozen


def count_blocks(blocks: Blocks, samples: Samples) -> list[BlockCount]:
    """The operations of each block."""
    x = samples.batch(np.arange(SIZES[0]) % len(samples))[0]
    found = []
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
        found.append(BlockCount(block.name, forward.get_total_flops() / SIZES[0], *backward))
        x = out.detach()
    return found


def stage_flops(blocks: Blocks, x: Tensor) -> list[int]:
    """Operations of each block's forward pass on a batch."""
    found = []
    with evaluating(blocks.model):
        for block in blocks:
            with FlopCounterMode(display=False) as counter:
                x = blocks.block(block.index)(x)
            found.append(counter.get_total_flops())
    return found
