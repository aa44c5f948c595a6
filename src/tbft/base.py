"""A base model ready for adaptation: the module, its blocks, its inputs, and its source card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn
from torch.nn.parameter import is_lazy

from tbft.blocks import Blocks
from tbft.blocks.norms import batch_dependent
from tbft.blocks.tensors import not_finite, state_bytes
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec
from tbft.diagnosis.card import SourceCard
from tbft.errors import DataError, NotFiniteError, wrong_form
from tbft.models.match import some
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

    def with_card(self, card: SourceCard | None) -> Base:
        """The same model with this card, and with the preprocessing of its source samples."""
        inputs, assumed = inputs_of_card(self.inputs, card, self.model)
        return replace(self, card=card, inputs=inputs, notes=(*self.notes, *assumed))

    def checked(self, samples: Samples) -> Samples:
        """The samples, with a note where their inputs may be in another unit than those of the card's source.

        Raises:
            DataError: they reach the model in another form, see :meth:`SourceCard.check_inputs`.
            CardError: they do, because the card belongs to another model.
        """
        if self.card is None:
            return samples
        try:
            notes = self.card.check_inputs(samples)
        except DataError:
            self.card.check(self.model)
            raise
        return replace(samples, notes=tuple(dict.fromkeys((*samples.notes, *notes))))


def inputs_of_card(
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


def notes_on(blocks: Blocks) -> tuple[str, ...]:
    """What to know about a model before reading its figures."""
    found = []
    if names := batch_dependent(blocks.model):
        found.append(
            f"BatchNorm keeps no running statistics in {', '.join(names[:3])}{' ...' if names[3:] else ''}: "
            "the model's output for a sample depends on the others in its batch, and so does its accuracy"
        )
    if blocks.traced.opaque:
        found.append(
            f"{blocks.traced.opaque}: it is one block, which is run as a whole; its submodules can be tuned "
            "by name"
        )
    if blocks.traced.taken:
        found.append(
            f"the model's logits are {blocks.traced.taken} that it returns; if they are another part, say "
            "tbft.split(model, output=lambda returned: ...)"
        )
    return tuple(found)


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
