"""A base model ready to be adapted: the module, its blocks, what it takes in, and its source card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tbft.blocks import Blocks, split
from tbft.blocks.norms import batch_dependent
from tbft.blocks.tensors import state_bytes
from tbft.data.forms import as_samples
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.errors import CheckpointError, PlanError, SplitError, wrong_form
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


#: Reads the samples that a model is for, where the model can only be split along an example.
ReadSamples = Callable[[InputSpec], Samples]


def reader_of(data: Any) -> ReadSamples:
    """Reads samples in any form; of parts, those to tune on."""
    return lambda inputs: as_samples(data.train if isinstance(data, Parts) else data, inputs)


#: What the functions at the root take as a model.
MODEL_FORMS = (
    "a torch.nn.Module",
    "a list of (name, module)",
    "Blocks of tbft.split",
    "a Base of tbft.load_base",
    'a preset\'s name, "package.module:factory" or "timm:NAME"',
)


def load_base(
    model: str,
    weights: str | Path | None = None,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    weights_key: str | None = None,
    read: ReadSamples | None = None,
) -> Base:
    """Load a base model by name.

    Args:
        model: a preset's name, ``package.module:factory``, or ``timm:NAME?classes=10``.
        weights: checkpoint; None: what ships with the preset, or what the factory made.
        card: source card of the weights; None: what ships with them.
        cuts, names: submodules at which new blocks start, and names of the blocks.
        weights_key: where the weights lie in the checkpoint; see :func:`tbft.load_weights`.
        read: reads samples for the model, if it can only be split along an example.

    Raises:
        TbftError: an unknown name, weights that do not fit, or a preset that ships without weights.
    """
    if not isinstance(model, str):
        raise wrong_form("model", model, [MODEL_FORMS[-1]])
    preset = find_model(model, cuts, names)
    if weights is None and preset.weights is None and preset.untrained:
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
        _split(module, preset.cuts, preset.block_names, preset.inputs, read),
        inputs=preset.inputs,
        name=preset.name,
        recipes=preset.recipes,
        weights=None if path is None else Path(path),
        notes=(*notes, *_notes_on(module)),
    )
    return replace(base, card=as_card(card or shipped))


def as_base(
    model: Any,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    read: ReadSamples | None = None,
) -> Base:
    """A base model of any form that the functions at the root take, see :data:`MODEL_FORMS`.

    Args:
        read: reads samples for the model, if it can only be split along an example.

    Raises:
        FormError: another form.
        PlanError: cuts or names for a model that is split already.
    """
    if isinstance(model, str):
        return load_base(model, None, card, cuts, names, read=read)
    if isinstance(model, (Base, Blocks)):
        base = model if isinstance(model, Base) else _base_of(model, inputs_of(model.model))
        if cuts is not None or names is not None:
            raise PlanError(
                "the model is split already: give cuts and names to tbft.split, or the module here"
            )
        return base if card is None else replace(base, card=as_card(card))
    if isinstance(model, (nn.Module, list, tuple)):
        inputs = inputs_of(model) if isinstance(model, nn.Module) else InputSpec()
        blocks = _split(model, cuts, names, inputs, read)
        base = _base_of(blocks, inputs)
        return replace(base, card=as_card(card))
    raise wrong_form("model", model, MODEL_FORMS)


def _split(
    model: nn.Module | Sequence[tuple[str, nn.Module]],
    cuts: Sequence[str] | None,
    names: Sequence[str] | None,
    inputs: InputSpec,
    read: ReadSamples | None,
) -> Blocks:
    """Split a model; along the first of its samples, where it cannot be traced without any."""
    try:
        return split(model, cuts, names)
    except SplitError as error:
        if not error.needs_example or read is None:
            raise
    return split(model, cuts, names, example=read(inputs).batch(slice(0, 2))[0])


def _base_of(blocks: Blocks, inputs: InputSpec) -> Base:
    return Base(blocks, inputs, notes=_notes_on(blocks.model))


def _notes_on(model: nn.Module) -> tuple[str, ...]:
    """What is to be known of a model before its figures are read."""
    names = batch_dependent(model)
    if not names:
        return ()
    return (
        f"BatchNorm keeps no running statistics in {', '.join(names[:3])}{' ...' if names[3:] else ''}: what "
        "the model says of a sample depends on the other samples of its batch, and so does its accuracy",
    )


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
