"""Stages of a model that takes several tensors: one tensor passes between them, whatever crosses a cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tbft.blocks.inputs import Inputs, map_tensors
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.stages import CROSSING
from tbft.blocks.state import evaluating_alone
from tbft.errors import SplitError
from tbft.packing import Packing, packing_of


class Bounded(nn.Module):
    """A stage that takes rows in which its inputs lie side by side, and returns its outputs in the same way.

    Attributes:
        entering, leaving: how its inputs and outputs lie side by side; None: a single tensor.
    """

    def __init__(self, stage: nn.Module, entering: Packing | None, leaving: Packing | None) -> None:
        super().__init__()
        self.stage, self.entering, self.leaving = stage, entering, leaving

    def forward(self, x: Any) -> Any:
        if self.entering is not None and isinstance(x, Tensor):
            x = self.entering.unpack(x)
        out = self.stage(x)
        return out if self.leaving is None else self.leaving.join(out)


def bounded(model: nn.Module, stages: Sequence[nn.Module], example: Inputs) -> list[nn.Module]:
    """The stages, with the inputs that pass beside the tensor at a cut, such as a mask, joined to it.

    Raises:
        SplitError: they cannot be run on the example.
    """
    x: Any = map_tensors(lambda t: t[:1].detach(), to_device(example, device_of(model)))
    entering: Packing | None = packing_of(x)
    found: list[nn.Module] = []
    with evaluating_alone(model):
        for stage in stages:
            try:
                x = stage(x)
            except Exception as error:
                raise SplitError(
                    f"the blocks cannot run on the example as {type(model).__name__} does: {error}"
                ) from error
            leaving = packing_of(x) if isinstance(x, Mapping) else None
            found.append(Bounded(stage, entering, leaving) if entering or leaving else stage)
            entering = leaving
    return found


def crossing_of(stage: nn.Module, x: Tensor) -> Tensor:
    """The tensor that crosses the cut before a stage, without what passes beside it."""
    entering = stage.entering if isinstance(stage, Bounded) else None
    if entering is None or CROSSING not in entering.names:
        return x
    crossing: Tensor = entering.unpack(x)[CROSSING]
    return crossing
