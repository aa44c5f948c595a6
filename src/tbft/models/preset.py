"""What is needed to run a model: the module, its cuts, its input, and weights if they ship with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from tbft.blocks import Blocks, split
from tbft.blocks.inputs import Inputs
from tbft.data.spec import InputSpec
from tbft.errors import CheckpointError
from tbft.models.checkpoints import load_weights


@dataclass(frozen=True)
class Preset:
    """A model and everything that belongs to it.

    Attributes:
        build: makes the model, untrained.
        cuts, block_names: how it is cut; None: as the model declares.
        inputs: class names, resolution in px and channels that it takes.
        mean, std: the normalization inside the model, per channel; None: none, or not known.
        recipes: the recipe of its own that stands behind a recipe's name, e.g. ``paper``.
        weights: checkpoint that ships with tbft; None: none does.
        card: source card of these weights.
        summary: one line for listings.
        untrained: as it is built; a factory may have loaded its weights.
    """

    name: str
    build: Callable[[], nn.Module]
    cuts: tuple[str, ...] | None = None
    block_names: tuple[str, ...] | None = None
    inputs: InputSpec = field(default_factory=InputSpec)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    recipes: dict[str, str] = field(default_factory=dict)
    weights: Path | None = None
    card: Path | None = None
    summary: str = ""
    untrained: bool = True

    def load(self, weights: str | Path | None = None) -> nn.Module:
        """Make the model with these weights, by default those that ship.

        Raises:
            CheckpointError: the file does not fit, or none was given and none ships.
        """
        path = self.weights if weights is None else weights
        if path is None:
            raise CheckpointError(f"{self.name} ships without weights: give a checkpoint")
        model = self.build()
        load_weights(model, path)
        return model

    def split(self, model: nn.Module, example: Inputs | None = None) -> Blocks:
        """Cut a model that this preset built; with an example, the blocks are compared with the model."""
        return split(model, self.cuts, self.block_names, example)
