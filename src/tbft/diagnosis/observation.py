"""What a model makes of samples, in small: what source cards and diagnoses are made from.

Nothing here looks at labels; one forward pass in evaluation mode gives all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms, evaluating, values_restored
from tbft.data.samples import Samples
from tbft.verification.evaluation import batches, computing_on

Floats = npt.NDArray[np.float32]

BATCH_SIZE = 64
#: What :func:`describe_pixels` finds in each sample, in order: names for pictures, and for anything else.
PIXELS = ("brightness", "contrast", "high frequencies", "color")
VALUES = ("mean", "spread", "steps", "channel spread")


@dataclass(frozen=True, eq=False)
class Observation:
    """A model's view of n samples.

    Attributes:
        layers: layer -> mean and mean square of each channel, two arrays (n, channels). Layers are
            those of BatchNorm, at their inputs; where there are none, blocks, at their inputs.
        pixels: (n, 4), see :data:`PIXELS`.
        features: (n, d), what enters the head.
        logits: (n, classes).
        pixel_names: what `pixels` are: :data:`PIXELS`, or :data:`VALUES` where samples are not pictures.
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
    """Run the samples through the model once and note what is seen; the model stays as it is.

    Args:
        source_samples: AdaBN in the same pass: each batch is normalized by the statistics of all samples
            seen so far, its own included, in which the source counts as so many; None: at rest.
    """
    computing = computing_on(blocks.model, samples, precision)
    found = set(batch_norms(blocks.model))
    norms = {name: m for name, m in blocks.model.named_modules() if m in found}
    layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
    features: list[Tensor] = []
    logits: list[Tensor] = []
    pixels: list[Floats] = []
    following = {}
    if source_samples is not None:
        following = {name: _Following(norm, source_samples) for name, norm in norms.items()}

    def note(name: str, x: Tensor) -> None:
        seen = moments(x)
        layers.setdefault(name, []).append(seen)
        if name in following:
            following[name].see(*seen)

    head = blocks.head if blocks.head not in blocks.names else None
    with ExitStack() as stack, evaluating(blocks.model), computing.autocast():
        if following:
            stack.enter_context(values_restored(blocks.model))
        for name, norm in norms.items():
            stack.enter_context(_sees(norm, partial(note, name)))
        if head is not None:
            stack.enter_context(_sees(blocks.model.get_submodule(head), features.append))
        for at in batches(len(samples), batch_size):
            x, _ = samples.batch(at)
            pixels.append(describe_pixels(x.numpy()))
            x = computing.laid_out(x)
            for block in blocks:
                if block.index and not norms:
                    note(block.name, x)
                if block.index == len(blocks) - 1 and head is None:
                    features.append(x)
                x = blocks.block(block.index)(x)
            logits.append(x)
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


class _Following:
    """Gives a BatchNorm the statistics of the samples seen so far, mixed with the source's."""

    def __init__(self, norm: _BatchNorm, source_samples: int) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.mean, self.variance = norm.running_mean, norm.running_var
        self.source = self.mean.clone(), self.variance.clone()
        self.sums = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.source_samples, self.count = source_samples, 0

    def see(self, means: Tensor, squares: Tensor) -> None:
        """Moments of a batch's samples, (n, channels)."""
        self.count += len(means)
        mean = self.sums[0].add_(means.sum(0)) / self.count
        variance = (self.sums[1].add_(squares.sum(0)) / self.count - mean**2).clamp_min(0)
        share = self.source_samples / (self.source_samples + self.count)
        self.mean.copy_(mean.lerp(self.source[0], share))
        self.variance.copy_(variance.lerp(self.source[1], share))


@contextmanager
def _sees(module: nn.Module, note: Callable[[Tensor], None]) -> Iterator[None]:
    """Tell of every tensor that enters a module."""
    handle = module.register_forward_pre_hook(lambda _, inputs: note(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def describe_pixels(x: npt.NDArray[Any]) -> Floats:
    """Four numbers a sample, (n, 4): mean, log standard deviation, log energy of steps between
    neighbors, and log spread across channels.

    Noise raises the third, blur lowers it; fog lowers the second.

    Args:
        x: (n, channels, ...) floats; windows and vectors count as pictures of one row.
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

    Of every other row, or moment of a window, which tells as much for half the time.

    >>> mean, square = moments(torch.tensor([[[1.0, 7.0, 3.0]]]))
    >>> mean.item(), square.item()
    (2.0, 5.0)
    """
    if x.ndim == 2:
        x = x.float()
        return x, x * x
    # Channels last, as they lie in memory: twice as quick.
    rows = x[:, :, ::2].float().movedim(1, -1).flatten(1, -2)
    return rows.mean(1), (rows * rows).mean(1)


def _joined(parts: list[Tensor]) -> Floats:
    return torch.cat(parts).float().cpu().numpy()
