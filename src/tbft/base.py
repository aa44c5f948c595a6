"""A base model ready for adaptation: the module, its blocks, its inputs, and its source card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from tbft.blocks import Blocks, split
from tbft.blocks.norms import batch_dependent
from tbft.blocks.tensors import not_finite, state_bytes
from tbft.data.forms import as_samples
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.errors import CheckpointError, DataError, NotFiniteError, PlanError, SplitError, wrong_form
from tbft.models import find_model, load_weights
from tbft.models.match import some
from tbft.models.registry import inputs_of
from tbft.plan import Recipe, find_recipe


@dataclass(frozen=True, eq=False)
class Base:
    """A base model, made by :func:`load_base` or from any form of model that the functions at the root take.

    Attributes:
        blocks: the model, split into blocks.
        inputs: what the model takes, to which data is fitted.
        name: name of the preset or factory; None for a module.
        card: source card of the model.
        recipes: name of a recipe -> name of the model's own variant of it.
        weights: the checkpoint that was loaded.
        notes: what was assumed or left out in loading it, one sentence each.
    """

    blocks: Blocks
    inputs: InputSpec = field(default_factory=InputSpec)
    name: str | None = None
    card: SourceCard | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_weights(self.model)

    @property
    def model(self) -> nn.Module:
        """The module itself."""
        return self.blocks.model

    @property
    def size_bytes(self) -> int:
        """Size of all tensors in the model's state dict."""
        return state_bytes(self.model.state_dict())

    def recipe(self, recipe: Recipe | str) -> Recipe:
        """The recipe, or the one with this name, in the model's own variant if there is one."""
        if isinstance(recipe, Recipe):
            return recipe
        if not isinstance(recipe, str):
            raise wrong_form("recipe", recipe, ["a Recipe", 'a name, such as "fast" or "paper"'])
        return find_recipe(recipe, dict(self.recipes))


#: Reads samples that fit a model, for models that can be split only with an example.
ReadSamples = Callable[[InputSpec], Samples]


def reader_of(data: Any) -> ReadSamples:
    """A function that reads samples of any form; from parts, those to tune on."""
    return lambda inputs: as_samples(data.train if isinstance(data, Parts) else data, inputs)


def inputs_for(inputs: InputSpec, loss: object | None) -> InputSpec:
    """How to read data: as targets if there is a loss, else as class labels."""
    return inputs if loss is None else replace(inputs, targets=True)


#: Forms of models that the functions at the root take.
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
) -> Base:
    """Load a base model by name.

    Args:
        model: name of a preset, ``package.module:factory``, or ``timm:NAME?classes=10``.
        weights: checkpoint; None: the weights that ship with the preset, or that the factory loads.
        card: source card of the weights; None: the card that ships with the preset.
        cuts, names: submodules at which new blocks start, and names of the blocks.
        weights_key: where the weights are in the checkpoint, see :func:`tbft.load_weights`.

    Raises:
        TbftError: an unknown name, weights that do not fit, or a preset that ships without weights.
    """
    return load_named(model, Source(weights, weights_key, card, cuts, names))


@dataclass(frozen=True)
class Source:
    """Where the weights, the card and the cuts of a named model come from, see :func:`load_base`.

    Attributes:
        read: reads samples for the model, in case it can be split only with an example.
    """

    weights: str | Path | None = None
    weights_key: str | None = None
    card: SourceCard | str | Path | None = None
    cuts: Sequence[str] | None = None
    names: Sequence[str] | None = None
    read: ReadSamples | None = None


def load_named(model: str, source: Source) -> Base:
    """As :func:`load_base`, also for models that can be split only with an example."""
    if not isinstance(model, str):
        raise wrong_form("model", model, [MODEL_FORMS[-1]])
    preset, weights = find_model(model, source.cuts, source.names), source.weights
    if weights is None and preset.weights is None and preset.untrained:
        raise CheckpointError(
            f"{model} comes without trained weights: give a checkpoint, --weights FILE or "
            f"tbft.load_base({model!r}, weights=FILE)"
        )
    if source.weights_key is not None and weights is None:
        raise CheckpointError("--weights-key chooses within a checkpoint: give one with --weights FILE")
    module, path = preset.build(), weights or preset.weights
    notes = () if path is None else load_weights(module, path, source.weights_key)
    shipped = preset.card if weights is None else None
    card = as_card(source.card or shipped)
    inputs, assumed = _inputs_of_card(preset.inputs, card, module)
    return Base(
        _split(module, preset.cuts, preset.block_names, inputs, source.read),
        inputs=inputs,
        name=preset.name,
        card=card,
        recipes=preset.recipes,
        weights=None if path is None else Path(path),
        notes=(*notes, *_notes_on(module), *assumed),
    )


def as_base(
    model: Any,
    card: SourceCard | str | Path | None = None,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    read: ReadSamples | None = None,
) -> Base:
    """A base model from any of :data:`MODEL_FORMS`.

    Args:
        read: reads samples for the model, in case it can be split only with an example.

    Raises:
        FormError: another form.
        PlanError: cuts or names for a model that is already split.
    """
    if isinstance(model, str):
        return load_named(model, Source(card=card, cuts=cuts, names=names, read=read))
    if isinstance(model, (Base, Blocks)):
        base = model if isinstance(model, Base) else _base_of(model, inputs_of(model.model))
        if cuts is not None or names is not None:
            raise PlanError(
                "the model is already split: give cuts and names to tbft.split, or the module here"
            )
        return base if card is None else _with_card(base, as_card(card))
    if isinstance(model, (nn.Module, list, tuple)):
        own_card, own = as_card(card), inputs_of(model) if isinstance(model, nn.Module) else InputSpec()
        inputs = _inputs_of_card(own, own_card, model)[0]
        return _with_card(_base_of(_split(model, cuts, names, inputs, read), own), own_card)
    raise wrong_form("model", model, MODEL_FORMS)


def _split(
    model: nn.Module | Sequence[tuple[str, nn.Module]],
    cuts: Sequence[str] | None,
    names: Sequence[str] | None,
    inputs: InputSpec,
    read: ReadSamples | None,
) -> Blocks:
    """Split a model, with the first of its samples as an example if it cannot be traced without one."""
    try:
        return split(model, cuts, names)
    except SplitError as error:
        if not error.needs_example or read is None:
            raise
    return split(model, cuts, names, example=read(inputs).batch(slice(0, 2))[0])


def _with_card(base: Base, card: SourceCard | None) -> Base:
    inputs, assumed = _inputs_of_card(base.inputs, card, base.model)
    return replace(base, card=card, inputs=inputs, notes=(*base.notes, *assumed))


def _inputs_of_card(
    inputs: InputSpec, card: SourceCard | None, model: object
) -> tuple[InputSpec, tuple[str, ...]]:
    """What a model takes, completed by the preprocessing of its source samples, and a note if that adds any.

    Raises:
        DataError: the model and the card disagree.
        CardError: they do, because the card belongs to another model.
    """
    if card is None or not card.preprocessing:
        return inputs, ()
    try:
        completed = inputs.completed_by(card.preprocessing)
    except DataError:
        if isinstance(model, nn.Module):
            card.check(model)
        raise
    return completed, noted_preprocessing(inputs, completed, "the source card")


def noted_preprocessing(before: InputSpec, after: InputSpec, where: str) -> tuple[str, ...]:
    """A note on a preprocessing that was taken from a card or a patch; none if it is the same as before."""
    if not after.preprocessing.differs_from(before.preprocessing):
        return ()
    return (f"preprocessing, unless given otherwise, as for {where}: {after.preprocessing}",)


def _base_of(blocks: Blocks, inputs: InputSpec) -> Base:
    return Base(blocks, inputs, notes=_notes_on(blocks.model))


def _notes_on(model: nn.Module) -> tuple[str, ...]:
    """What to know about a model before reading its figures."""
    names = batch_dependent(model)
    if not names:
        return ()
    return (
        f"BatchNorm keeps no running statistics in {', '.join(names[:3])}{' ...' if names[3:] else ''}: the "
        "model's output for a sample depends on the other samples of its batch, and so does its accuracy",
    )


def module_and_inputs(model: Any) -> tuple[nn.Module, InputSpec]:
    """The module of a model in any form, which need not be split into blocks, and its inputs."""
    if isinstance(model, nn.Module):
        check_weights(model)
        return model, inputs_of(model)
    base = as_base(model)
    return base.model, base.inputs


def check_weights(model: nn.Module) -> None:
    """Raise NotFiniteError if weights, or statistics of BatchNorm, are NaN or infinite.

    Infinite statistics give outputs that look right. Other buffers may be infinite, such as masks.
    """
    statistics = {
        name: buffer
        for name, buffer in model.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
    }
    weights = dict(model.named_parameters()) | statistics
    known = {name: tensor for name, tensor in weights.items() if not (is_lazy(tensor) or tensor.is_meta)}
    if bad := not_finite(known):
        raise NotFiniteError(f"the model holds NaN or infinity in {some(bad)}: get its weights again")


def as_card(card: SourceCard | str | Path | None) -> SourceCard | None:
    """The source card, or the one in a file."""
    if card is None or isinstance(card, SourceCard):
        return card
    if isinstance(card, (str, Path)):
        return SourceCard.load(card)
    raise wrong_form("card", card, ["a SourceCard", "the path of its file"])
