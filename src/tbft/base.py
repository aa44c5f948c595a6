"""A base model ready to be adapted: the module, its blocks, what it takes in, and its source card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tbft.blocks import Blocks, split
from tbft.blocks.tensors import state_bytes
from tbft.data.spec import InputSpec
from tbft.diagnosis.card import SourceCard
from tbft.errors import CheckpointError, PlanError, wrong_form
from tbft.models import find_model, load_weights
from tbft.models.registry import inputs_of
from tbft.plan import Recipe, find_recipe


@dataclass(frozen=True, eq=False)
class Base:
    """A base model. Made by :func:`load_base`, or of whatever the functions at the root take as a model.

    Attributes:
        inputs: what the model takes; data is fitted to it.
        name: of the preset or factory; None for a module.
        recipes: the model's own variants behind the names of recipes.
        weights: the checkpoint that was loaded.
        notes: what was assumed or left out in loading it, a sentence each.
    """

    blocks: Blocks
    inputs: InputSpec = field(default_factory=InputSpec)
    name: str | None = None
    card: SourceCard | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> nn.Module:
        """The module itself."""
        return self.blocks.model

    @property
    def size_bytes(self) -> int:
        """Of all tensors of the model's state."""
        return state_bytes(self.model.state_dict())

    def recipe(self, recipe: Recipe | str) -> Recipe:
        """A recipe, or the one with this name, in the model's own variant if it has one."""
        if isinstance(recipe, Recipe):
            return recipe
        if not isinstance(recipe, str):
            raise wrong_form("recipe", recipe, ["a Recipe", 'a name, such as "fast" or "paper"'])
        return find_recipe(recipe, dict(self.recipes))


#: What the functions at the root take as a model.
MODEL_FORMS = (
    "a torch.nn.Module",
    "a list of (name, module)",
    "Blocks of tbft.split",
    "a Base of tbft.load_base",
    'a preset\'s name or "package.module:factory"',
)


def load_base(
    model: str,
    weights: str | Path | None = None,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    weights_key: str | None = None,
) -> Base:
    """Load a base model by name.

    Args:
        model: a preset's name, or ``package.module:factory``.
        weights: checkpoint; None: what ships with the preset, or what the factory made.
        card: source card of the weights; None: what ships with them.
        cuts, names: submodules at which new blocks start, and names of the blocks.
        weights_key: where the weights lie in the checkpoint; see :func:`tbft.load_weights`.

    Raises:
        TbftError: an unknown name, weights that do not fit, or a preset that ships without weights.
    """
    if not isinstance(model, str):
        raise wrong_form("model", model, [MODEL_FORMS[-1]])
    preset = find_model(model, cuts, names)
    if weights is None and preset.weights is None and ":" not in model:
        raise CheckpointError(
            f"{model} is untrained as it is built: give its checkpoint, --weights FILE or "
            f"tbft.load_base({model!r}, weights=FILE)"
        )
    module = preset.build()
    path = weights or preset.weights
    if weights_key is not None and weights is None:
        raise CheckpointError("--weights-key chooses within a checkpoint: give that with --weights FILE")
    notes = () if path is None else load_weights(module, path, weights_key)
    shipped = preset.card if weights is None else None
    base = Base(
        split(module, preset.cuts, preset.block_names),
        inputs=preset.inputs,
        name=preset.name,
        recipes=preset.recipes,
        weights=None if path is None else Path(path),
        notes=notes,
    )
    return replace(base, card=as_card(card or shipped))


def as_base(
    model: Any,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Base:
    """A base model of any form that the functions at the root take, see :data:`MODEL_FORMS`.

    Raises:
        FormError: another form.
        PlanError: cuts or names for a model that is split already.
    """
    if isinstance(model, str):
        return load_base(model, None, card, cuts, names)
    if isinstance(model, (Base, Blocks)):
        base = model if isinstance(model, Base) else Base(model, inputs_of(model.model))
        if cuts is not None or names is not None:
            raise PlanError(
                "the model is split already: give cuts and names to tbft.split, or the module here"
            )
        return base if card is None else replace(base, card=as_card(card))
    if isinstance(model, (nn.Module, list, tuple)):
        blocks = split(model, cuts, names)
        return Base(blocks, inputs_of(blocks.model), card=as_card(card))
    raise wrong_form("model", model, MODEL_FORMS)


def module_and_inputs(model: Any) -> tuple[nn.Module, InputSpec]:
    """The module behind a model of any form, which need not be cut into blocks, and what it takes."""
    if isinstance(model, nn.Module):
        return model, inputs_of(model)
    base = as_base(model)
    return base.model, base.inputs


def as_card(card: SourceCard | str | Path | None) -> SourceCard | None:
    """A source card, or the one in a file."""
    if card is None or isinstance(card, SourceCard):
        return card
    if isinstance(card, (str, Path)):
        return SourceCard.load(card)
    raise wrong_form("card", card, ["a SourceCard", "the path of its file"])
