"""A model and its cuts, made into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tbft.blocks.arm import RESERVED
from tbft.blocks.blocks import Blocks
from tbft.blocks.boundaries import bounded
from tbft.blocks.inputs import Inputs, map_tensors
from tbft.blocks.outputs import Output, logits_of
from tbft.blocks.ownership import describe
from tbft.blocks.partition import parents_of, partition
from tbft.blocks.stages import stages_of
from tbft.blocks.tracing import trace
from tbft.errors import SplitError, unknown


def cut_at(
    model: nn.Module,
    cuts: Sequence[str],
    names: Sequence[str],
    example: Inputs | None = None,
    output: Output = logits_of,
) -> Blocks:
    """Cut a model at these submodules; unlike :func:`split`, nothing is run to compare it."""
    _check_names(model, cuts, names)
    traced = trace(model, parents_of(cuts), example, output)
    parts = partition(traced, cuts, names)
    stages: list[nn.Module] = list(stages_of(model, traced, parts, example))
    if traced.training is not None:
        other = stages_of(model, traced.training, partition(traced.training, cuts, names), example)
        stages = [_ByMode(model, *both) for both in zip(stages, other, strict=True)]
    if example is not None and not isinstance(example, Tensor):
        stages = bounded(model, stages, example)
    few = None if example is None else map_tensors(lambda t: t[:1].detach(), example)
    return Blocks(model, stages, describe(model, parts, cuts, names), traced, few, output)


class _ByMode(nn.Module):
    """A block that runs other code while the model is in training mode, as functional dropout does."""

    def __init__(self, model: nn.Module, evaluation: nn.Module, training: nn.Module) -> None:
        super().__init__()
        self.evaluation = evaluation
        self._others = (model, training)  # in a tuple, so that their state does not count as its own

    def forward(self, x: Any) -> Any:
        model, training = self._others
        return training(x) if model.training else self.evaluation(x)


def _check_names(model: nn.Module, cuts: Sequence[str], names: Sequence[str]) -> None:
    known = [name for name, _ in model.named_modules() if name]
    for cut in cuts:
        if cut not in known:
            raise SplitError(unknown("cut", cut, known))
    if len(set(cuts)) != len(cuts):
        raise SplitError(f"a cut is named twice: {', '.join(cuts)}")
    if len(names) != len(cuts) + 1:
        raise SplitError(f"{len(cuts)} cuts make {len(cuts) + 1} blocks, but {len(names)} names were given")
    if len(set(names)) != len(names):
        raise SplitError(f"a block name is used twice: {', '.join(names)}")
    if reserved := RESERVED & set(names):
        raise SplitError(f"{min(reserved)!r} names an arm of its own and cannot name a block")
