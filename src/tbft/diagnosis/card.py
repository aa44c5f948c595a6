"""The source card: small statistics of a base model on source data, so that the data itself need not travel.

    card = tbft.build_card(blocks, held_out_source_samples)
    card.save("base.card.safetensors")

A card takes tens of kilobytes, up to some hundred, and is tied to the base model by a fingerprint. For each
observed layer (the inputs of BatchNorms, or of blocks) it holds the mean and variance of every channel on
source samples, and how far clean samples lie from them. It also holds statistics of pixels, accuracy and
confidence, and inputs of the head for some samples, for adding new classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tbft import container
from tbft.blocks.tensors import fingerprint, not_finite
from tbft.data.input_statistics import InputStatistics
from tbft.data.prepared import check_prepared, check_statistics
from tbft.data.preprocessing import Preprocessing
from tbft.data.samples import Samples
from tbft.diagnosis.divergence import CleanDistance, channel_moments, symmetric_kl
from tbft.diagnosis.observation import Floats, Observation
from tbft.errors import CardError, DataError
from tbft.files import CARD
from tbft.schema import Amount, Count, Digest, Name, Share, build

#: Version 2, written by tbft 0.1, uses other names and holds tensors that are ignored here; up to version 3
#: nothing is known of the inputs.
FORMAT_VERSION, OLDEST_VERSION = 4, 2
#: Fewer samples would describe neither channels nor classes well enough.
MIN_SAMPLES = 100
#: Maximum number of scalars in the classes' mean features, which limits the size of the card.
MAX_CLASS_NUMBERS = 100_000


@dataclass(frozen=True)
class _Header:
    """The header of a card's file."""

    base_fingerprint: Digest
    sample_count: Count
    accuracy: Share
    mapped_accuracy: Share
    confidence: Share
    confidence_spread: Amount
    clean: tuple[tuple[Name, CleanDistance], ...]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    inputs: InputStatistics | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SourceCard:
    """Statistics of a base model on its source data.

    Attributes:
        base_fingerprint: fingerprint of the model that the card was built with.
        sample_count: number of held-out source samples that it was built from.
        accuracy: accuracy on them, 0 to 1.
        mapped_accuracy: accuracy if each predicted class meant its most frequent label; the same for a model
            that has learned its classes.
        confidence: mean of the largest softmax output.
        confidence_spread: standard deviation of the largest softmax output over samples.
        clean: layer -> how far clean samples lie from the source.
        tensors: ``site/<layer>/mean`` and ``/variance`` (channels,); ``pixels/mean`` and ``/spread`` (4,);
            ``classes/mean`` (classes, d) and ``/spread`` (d,) of the inputs of the head, unless too large,
            and those of some samples, see :mod:`tbft.diagnosis.class_features`.
        preprocessing: fields of the samples' preprocessing, as far as it is known.
        inputs: statistics of the model's inputs; None: unknown.
        notes: what seemed wrong when the card was built, one sentence each.
    """

    base_fingerprint: str
    sample_count: int
    accuracy: float
    mapped_accuracy: float
    confidence: float
    confidence_spread: float
    clean: Mapping[str, CleanDistance]
    tensors: Mapping[str, Tensor]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    inputs: InputStatistics | None = None
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The observed layers in the order in which the model runs them."""
        return tuple(self.clean)

    def array(self, key: str) -> Floats:
        """One of the tensors as an array."""
        return self.tensors[key].numpy()

    def distances(self, seen: Observation) -> dict[str, float]:
        """Layer -> :func:`symmetric_kl` between the channels of the samples and of the source.

        Raises:
            CardError: the model has other layers.
        """
        for layer in self.layers:
            channels = seen.layers[layer][0].shape[1] if layer in seen.layers else 0
            if channels != len(self.tensors[f"site/{layer}/mean"]):
                raise CardError(f"the source card has other channels for {layer}: build one for this model")
        return {
            layer: symmetric_kl(
                self.array(f"site/{layer}/mean"),
                self.array(f"site/{layer}/variance"),
                *channel_moments(seen, layer),
            )
            for layer in self.layers
        }

    def to_bytes(self) -> bytes:
        """The card as a ``.safetensors`` file."""
        fields = {k: v for k, v in vars(self).items() if k not in ("tensors", "clean")}
        clean = [
            [layer, asdict(distance)] for layer, distance in self.clean.items()
        ]  # a list keeps the order
        inputs = None if self.inputs is None else self.inputs.to_json()
        header = {**fields, "clean": clean, "inputs": inputs, "format_version": FORMAT_VERSION}
        return container.to_bytes("card", header, self.tensors)

    def save(self, path: str | Path) -> None:
        """Write the card, atomically."""
        container.write(path, self.to_bytes(), CARD)

    @classmethod
    def load(cls, path: str | Path) -> SourceCard:
        """Read a card and check its checksum and version.

        Raises:
            CardError: missing, damaged, cut off, not a card, or of an unknown version.
        """
        content = container.read(path, "card", FORMAT_VERSION, CardError, OLDEST_VERSION)
        header, tensors = content.header, content.tensors
        header.pop("format_version")
        header.pop("gradients", None)
        older = header.pop("strays", None)
        clean = header.pop("clean", older)
        parts = ("site/", "pixels/", "classes/")
        kept = {key: value for key, value in tensors.items() if key.startswith(parts)}
        where = f"the header of {path}"
        checked = build(_Header, {**header, "clean": clean}, where, CardError)
        try:
            Preprocessing.from_json(checked.preprocessing)
        except DataError as error:
            raise CardError(f"{where} is not usable: {error}") from error
        if checked.inputs is not None and len(checked.inputs.means) != len(checked.inputs.deviations):
            raise CardError(f"{where} is not usable: its inputs have means and deviations of other channels")
        card = cls(**{**vars(checked), "clean": dict(checked.clean)}, tensors=kept)
        card.check_tensors(str(path))
        return card

    def check_tensors(self, where: str) -> None:
        """Raise CardError unless there are finite moments for every layer and for the pixels."""
        if bad := not_finite(self.tensors):
            raise CardError(f"{where}: {bad[0]} holds NaN or infinity; build the card again")
        if not self.layers:
            raise CardError(f"{where} knows no layer; build the card again")
        for key in [f"site/{layer}" for layer in self.layers] + ["pixels"]:
            second = "spread" if key == "pixels" else "variance"
            moments = [self.tensors.get(f"{key}/{name}") for name in ("mean", second)]
            if any(m is None or m.ndim != 1 or m.dtype != torch.float32 for m in moments) or (
                len({len(m) for m in moments if m is not None}) != 1
            ):
                raise CardError(f"{where} lacks the moments of {key}, or has them in another shape")

    def check(self, model: nn.Module) -> None:
        """Raise CardError unless the card was built with this model."""
        if fingerprint(model.state_dict()) != self.base_fingerprint:
            raise CardError("the source card was built with another base model: build one for this model")

    def check_inputs(self, samples: Samples) -> tuple[str, ...]:
        """Raise DataError if samples reach the model in another form than those of the source did.

        Drift changes what inputs show; another normalization, size, range or unit is a mistake.

        Returns:
            a note where the inputs may be in another unit, which may be drift as well.
        """
        check_prepared(samples, self.preprocessing)
        return () if self.inputs is None else check_statistics(samples, self.inputs)
