"""Base models in any form: a name, a module, blocks, or a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from tbft.base import Base, check_weights, inputs_of_card, notes_on
from tbft.blocks import Blocks, split
from tbft.blocks.inputs import Inputs, may_take_several
from tbft.data.forms import as_samples, has_several
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.errors import CheckpointError, PlanError, SplitError, wrong_form
from tbft.models import find_model, load_weights
from tbft.models.registry import inputs_of

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
    """Where the weights, the card and the cuts of a named model come from, see :func:`load_base`."""

    weights: str | Path | None = None
    weights_key: str | None = None
    card: SourceCard | str | Path | None = None
    cuts: Sequence[str] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class ReadSamples:
    """Reads samples that fit a model, for models that can be split only with an example.

    Attributes:
        several: whether the data are known to have several inputs per sample.
    """

    read: Callable[[InputSpec], Samples]
    several: bool = False

    def __call__(self, inputs: InputSpec) -> Samples:
        return self.read(inputs)


def load_named(model: str, source: Source, read: ReadSamples | None = None) -> Base:
    """As :func:`load_base`; `read` reads samples for models that can be split only with an example."""
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
    module, path = preset.build(), preset.weights if weights is None else weights
    notes = () if path is None else load_weights(module, path, source.weights_key)
    shipped = preset.card if weights is None else None
    card = as_card(shipped if source.card is None else source.card)
    inputs, assumed = inputs_of_card(preset.inputs, card, module)
    blocks = _split(module, replace(source, cuts=preset.cuts, names=preset.block_names), inputs, read)
    return Base(
        blocks,
        inputs,
        name=preset.name,
        card=card,
        recipes=preset.recipes,
        weights=None if path is None else Path(path),
        notes=(*notes, *notes_on(blocks), *assumed),
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
    if isinstance(model, (Base, Blocks)):
        if cuts is not None or names is not None:
            raise PlanError(
                "the model is already split: give cuts and names to tbft.split, or the module here"
            )
        if isinstance(model, Blocks):
            model = Base(model, inputs_of(model.model), notes=notes_on(model))
        return model if card is None else model.with_card(as_card(card))
    source = Source(card=card, cuts=cuts, names=names)
    if isinstance(model, str):
        return load_named(model, source, read)
    if not isinstance(model, (nn.Module, list, tuple)):
        raise wrong_form("model", model, MODEL_FORMS)
    card, own = as_card(card), inputs_of(model) if isinstance(model, nn.Module) else InputSpec()
    inputs, assumed = inputs_of_card(own, card, model)
    blocks = _split(model, source, inputs, read)
    return Base(blocks, inputs, card=card, notes=(*notes_on(blocks), *assumed))


def _split(
    model: nn.Module | Sequence[tuple[str, nn.Module]],
    source: Source,
    inputs: InputSpec,
    read: ReadSamples | None,
) -> Blocks:
    """The model's blocks; with the first samples as an example if it cannot be traced without one."""
    if read is not None and (read.several or may_take_several(model)):
        samples = read(inputs)
        if samples.packing is not None:
            return split(model, source.cuts, source.names, example=_example(samples))
    try:
        return split(model, source.cuts, source.names)
    except SplitError as error:
        if not error.needs_example or read is None:
            raise
    return split(model, source.cuts, source.names, example=_example(read(inputs)))


def _example(samples: Samples) -> Inputs:
    """The first samples as the model takes them."""
    x = samples.batch(slice(0, 2))[0]
    return x if samples.packing is None else samples.packing.unpack(x)


def runnable_and_inputs(model: Any) -> tuple[nn.Module | Blocks, InputSpec]:
    """A model in any form, which need not be split into blocks to be run, and its inputs."""
    if isinstance(model, nn.Module):
        check_weights(model)
        return model, inputs_of(model)
    base = as_base(model)
    return base.blocks, base.inputs


def as_card(card: SourceCard | str | Path | None) -> SourceCard | None:
    """The source card, or the one in a file."""
    if card is None or isinstance(card, SourceCard):
        return card
    if isinstance(card, (str, Path)):
        return SourceCard.load(card)
    raise wrong_form("card", card, ["a SourceCard", "the path of its file"])


def reader_of(data: Any, loss: object | None = None) -> ReadSamples:
    """A function that reads samples of any form, as :func:`inputs_for` says; from parts, those to tune on."""
    data = data.train if isinstance(data, Parts) else data
    return ReadSamples(lambda inputs: as_samples(data, inputs_for(inputs, loss)), has_several(data))


def inputs_for(inputs: InputSpec, loss: object | None) -> InputSpec:
    """How to read data: as targets if there is a loss, else as class labels."""
    return inputs if loss is None else replace(inputs, targets=True)
