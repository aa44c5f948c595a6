"""Observe what a model computes on samples, as small statistics: the basis of source cards and diagnoses.

One forward pass in evaluation mode gives everything; labels are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from tbft.blocks import Blocks, check_stages
from tbft.blocks.boundaries import crossing_of
from tbft.blocks.hooks import on_input
from tbft.blocks.state import batch_norms, evaluating_alone, values_restored
from tbft.data.samples import Samples
from tbft.verification.running import batches, check_finite, computing_on

Floats = npt.NDArray[np.float32]

BATCH_SIZE = 64
#: Names of the columns of :func:`describe_pixels`, for pictures and for other samples.
PIXELS = ("brightness", "contrast", "high frequencies", "color")
VALUES = ("mean", "spread", "steps", "channel spread")


@dataclass(frozen=True, eq=False)
class Observation:
    """What a model computes on n samples.

    Attributes:
        layers: layer -> mean and mean square of each channel of its input, two arrays (n, channels). Layers
            are the BatchNorms of the model; in a model without BatchNorm, its blocks.
        pixels: (n, 4), see :func:`describe_pixels`.
        features: (n, d), the inputs of the head.
        logits: (n, classes).
        pixel_names: names of the columns of `pixels`: :data:`PIXELS` for pictures, else :data:`VALUES`.
    """

    layers: Mapping[str, tuple[Floats, Floats]]
    pixels: Floats
    features: Floats
    logits: Floats
    pixel_names: tuple[str, ...] = PIXELS

    def __len__(self) -> int:
        return len(self.logits)


def observe(
    blocks: Blocks,
    samples: Samples,
    precision: str = "auto",
    batch_size: int = BATCH_SIZE,
    source_samples: int | None = None,
) -> Observation:
    """Run the samples through the model once and record statistics; the model is not changed.

    Args:
        source_samples: apply AdaBN in the same pass: each batch is normalized by the statistics of all
            samples so far, including its own, mixed with the source's, which count as this many samples.
            None: no AdaBN.
    """
    computing = computing_on(blocks.whole, samples, precision)
    check_stages(blocks, samples.batch(slice(0, batch_size))[0])
    known = set(batch_norms(blocks.model))
    norms = {name: m for name, m in blocks.model.named_modules() if m in known}
    layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
    features: list[Tensor] = []
    into_head: list[Tensor] = []  # of the current batch
    logits: list[Tensor] = []
    pixels: list[Floats] = []
    running = {}
    if source_samples is not None:
        running = {name: _RunningStatistics(norm, source_samples) for name, norm in norms.items()}

    def record(name: str, x: Tensor) -> None:
        batch = moments(x)
        layers.setdefault(name, []).append(batch)
        if name in running:
            running[name].update(*batch)

    with ExitStack() as stack, evaluating_alone(blocks.model), computing.autocast():
        if running:
            stack.enter_context(values_restored(blocks.model))
        for name, norm in norms.items():
            stack.enter_context(on_input(norm, partial(record, name)))
        if blocks.head_layer:
            stack.enter_context(on_input(blocks.model.get_submodule(blocks.head_layer), into_head.append))
        for at in batches(len(samples), batch_size):
            x, _ = samples.batch(at)
            pixels.append(describe_pixels(x.numpy()))
            x = computing.laid_out(x)
            into_head.clear()
            for block in blocks:
                if block.index and not norms:
                    record(block.name, crossing_of(blocks.block(block.index), x))
                entering, x = x, blocks.block(block.index)(x)
            logits.append(x.reshape(len(x), -1))
            # The head may be no module, or be called several times or on other rows than those of the batch.
            once = len(into_head) == 1 and len(into_head[0]) == len(logits[-1])
            features.append(into_head[0] if once else entering)
    check_finite(torch.cat(logits), samples)
    return Observation(
        {
            name: (_joined([m for m, _ in rows]), _joined([s for _, s in rows]))
            for name, rows in layers.items()
        },
        np.concatenate(pixels),
        _joined([x.flatten(1) for x in features]),
        _joined(logits),
        PIXELS if samples.inputs.ndim == 4 else VALUES,
    )


class _RunningStatistics:
    """Sets a BatchNorm's statistics to those of the samples so far, mixed with the source's."""

    def __init__(self, norm: _BatchNorm, source_samples: int) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.mean, self.variance = norm.running_mean, norm.running_var
        self.source = self.mean.clone(), self.variance.clone()
        self.sums = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.source_samples, self.count = source_samples, 0

    def update(self, means: Tensor, squares: Tensor) -> None:
        """Add a batch, given the mean and mean square of each channel of its samples, both (n, channels)."""
        self.count += len(means)
        mean = self.sums[0].add_(means.sum(0)) / self.count
        variance = (self.sums[1].add_(squares.sum(0)) / self.count - mean**2).clamp_min(0)
        share = self.source_samples / (self.source_samples + self.count)
        self.mean.copy_(mean.lerp(self.source[0], share))
        self.variance.copy_(variance.lerp(self.source[1], share))


def describe_pixels(x: npt.NDArray[Any]) -> Floats:
    """Four numbers per sample, (n, 4): mean, log standard deviation, log energy of the differences between
    neighbors, and log standard deviation across channels.

    Noise raises the third, blur lowers it; fog lowers the second.

    Args:
        x: (n, channels, ...) floats; windows and vectors are treated as pictures with one row.
    """
    flat, rows = x.reshape(len(x), -1), x.reshape(len(x), x.shape[1], -1) if x.ndim > 2 else x[:, None]
    axes = range(2, x.ndim) if x.ndim > 2 else [1]
    steps = sum((np.diff(x, axis=axis) ** 2).reshape(len(x), -1).mean(1) for axis in axes)
    columns = [
        flat.mean(1),
        np.log(flat.std(1) + 1e-4),
        np.log(steps + 1e-6),
        np.log(rows.std(axis=1).mean(1) + 1e-3),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each channel of each sample, both (n, channels).

    They are computed on every other row of a picture, or step of a window: just as informative, in half the
    time.

    >>> mean, square = moments(torch.tensor([[[1.0, 7.0, 3.0]]]))
    >>> mean.item(), square.item()
    (2.0, 5.0)
    """
    if x.ndim == 2:
        x = x.float()
        return x, x * x
    # Channels last, as in memory, which is twice as fast.
    rows = x[:, :, ::2].float().movedim(1, -1).flatten(1, -2)
    return rows.mean(1), (rows * rows).mean(1)


def _joined(parts: list[Tensor]) -> Floats:
    return torch.cat(parts).float().cpu().numpy()
