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

from tbft.blocks import Blocks
from tbft.compute import autocast, laid_out
from tbft.data.samples import Samples
from tbft.evaluate import batches
from tbft.restoring import batch_norms, evaluating

Floats = npt.NDArray[np.float32]

BATCH_SIZE = 64
#: What :func:`describe_pixels` tells of each sample, in order.
PIXELS = ("brightness", "contrast", "high frequencies", "colour")


@dataclass(frozen=True, eq=False)
class Observation:
    """A model's view of n samples.

    Attributes:
        sites: place in the model -> mean and mean square of each channel, two arrays (n, channels).
            Places are the inputs of BatchNorms; where there are none, the outputs of blocks.
        pixels: (n, 4), see :data:`PIXELS`.
        features: (n, d), what enters the head.
        logits: (n, classes).
    """

    sites: Mapping[str, tuple[Floats, Floats]]
    pixels: Floats
    features: Floats
    logits: Floats

    def __len__(self) -> int:
        return len(self.logits)


def observe(
    blocks: Blocks, samples: Samples, precision: str = "auto", batch_size: int = BATCH_SIZE
) -> Observation:
    """Run the samples through the model once and note what is seen; the model stays as it is."""
    found = set(batch_norms(blocks.model))
    norms = {name: m for name, m in blocks.model.named_modules() if m in found}
    sites: dict[str, list[tuple[Tensor, Tensor]]] = {}
    features: list[Tensor] = []
    logits: list[Tensor] = []
    pixels: list[Floats] = []

    def note(name: str, x: Tensor) -> None:
        sites.setdefault(name, []).append(moments(x))

    head = blocks.head if blocks.head not in blocks.names else None
    with ExitStack() as stack, evaluating(blocks.model), autocast(precision):
        for name, norm in norms.items():
            stack.enter_context(_sees(norm, partial(note, name)))
        if head is not None:
            stack.enter_context(_sees(blocks.model.get_submodule(head), features.append))
        for at in batches(len(samples), batch_size):
            x, _ = samples.batch(at)
            pixels.append(describe_pixels(x.numpy()))
            x = laid_out(x)
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
            for name, rows in sites.items()
        },
        np.concatenate(pixels),
        _joined([x.flatten(1) for x in features]),
        _joined(logits),
    )


def logits_of(
    blocks: Blocks, samples: Samples, precision: str = "auto", batch_size: int = BATCH_SIZE
) -> Floats:
    """The last column of :func:`observe` alone, which is quicker."""
    with evaluating(blocks.model), autocast(precision):
        parts = batches(len(samples), batch_size)
        return _joined([blocks.model(laid_out(samples.batch(at)[0])) for at in parts])


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
    neighbours, and log spread across channels.

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

    >>> mean, square = moments(torch.tensor([[[1.0, 3.0]]]))
    >>> mean.item(), square.item()
    (2.0, 5.0)
    """
    if x.ndim == 2:
        x = x.float()
        return x, x * x
    rows = x.movedim(1, -1).flatten(1, -2).float()  # channels last, as they lie in memory: twice as quick
    return rows.mean(1), torch.linalg.vector_norm(rows, dim=1) ** 2 / rows.shape[1]


def _joined(parts: list[Tensor]) -> Floats:
    return torch.cat(parts).float().numpy()
