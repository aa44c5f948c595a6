"""Activation checkpointing: recompute what the backward pass needs, piece by piece, to save memory.

The forward pass keeps only the tensors between pieces (Chen et al., "Training Deep Nets with Sublinear Memory
Cost", 2016; torch's ``checkpoint``). A step takes about a third longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tbft.blocks import Blocks, recut
from tbft.blocks.state import batch_norms
from tbft.errors import SplitError


class Recomputed(nn.Module):
    """Consecutive modules, recomputed in the backward pass; same outputs, gradients and statistics."""

    def __init__(self, pieces: list[nn.Module]) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(pieces)

    def forward(self, x: Tensor) -> Tensor:
        for piece in self.pieces:

            def contexts(
                piece: nn.Module = piece,
            ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
                return nullcontext(), statistics_still(piece)

            x = checkpoint(_keeping_input(piece), x, use_reentrant=False, context_fn=contexts)
        return x


def _keeping_input(piece: nn.Module) -> Callable[[Tensor], Tensor]:
    """The piece, run on a copy of its input if it may overwrite it, as the input is needed again."""
    if any(getattr(module, "inplace", False) for module in piece.modules()):
        return lambda x: piece(x.clone())
    return piece


@contextmanager
def statistics_still(module: nn.Module) -> Iterator[None]:
    """Let BatchNorms in training mode normalize by the batch without updating their running statistics."""
    tracking = [(n, n.momentum, n.num_batches_tracked) for n in batch_norms(module) if n.training]
    counts = [None if count is None else count.clone() for *_, count in tracking]
    for norm, *_ in tracking:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, tracked), count in zip(tracking, counts, strict=True):
            norm.momentum = momentum
            if tracked is not None and count is not None:
                tracked.copy_(count)


def recomputed(blocks: Blocks, first: int) -> Recomputed:
    """Block `first` and all later ones, in the smallest pieces that are connected by one tensor each.

    >>> from tbft.blocks import split
    >>> model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    >>> len(recomputed(split(model), 0).pieces)
    3
    """
    order = {name: i for i, (name, _) in enumerate(blocks.model.named_modules())}
    finer, cuts = blocks, list(blocks.cuts)
    for cut in _candidates(blocks.model):
        tried = sorted({*cuts, cut}, key=order.__getitem__)
        with suppress(SplitError):  # a skip connection, or another order: keep the coarser piece
            finer, cuts = recut(blocks, tried), tried
    start = cuts.index(blocks.cuts[first - 1]) + 1 if first else 0
    return Recomputed([finer.block(k) for k in range(start, len(finer))])


def _candidates(model: nn.Module) -> list[str]:
    """The children of the model and of every ``nn.Sequential`` in it, except the first of each."""
    parents = [(n, m) for n, m in model.named_modules() if m is model or isinstance(m, nn.Sequential)]
    return [f"{n}.{child}".lstrip(".") for n, m in parents for child, _ in list(m.named_children())[1:]]
