"""The source card: small statistics of a base model on source data, so that no source data need travel.

    card = build_card(blocks, held_out_source_samples)
    card.save("base.card.safetensors")

A few ten kilobytes, tied to the base model by its fingerprint. It holds, for each place in the model
(the inputs of BatchNorms, or the outputs of blocks), the channels' mean and variance on source samples
and how far a clean sample of any size strays from them; the same of pixels, of what enters the head, of
predictions and their confidence; accuracy and confusion matrix; and relative gradient norms of the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft import container
from tbft.blocks import Blocks
from tbft.blocks.state import flags_restored, modes_restored
from tbft.blocks.tensors import fingerprint
from tbft.data.samples import Samples
from tbft.diagnosis.observation import Floats, Observation, observe
from tbft.errors import CardError, DataError
from tbft.verification.evaluation import check_fits

FORMAT_VERSION = 2
#: Clean resampling: so many draws, of so many samples each.
DRAWS, DRAWN = 200, 50
#: A card from fewer samples would know neither channels nor classes.
LEAST_SAMPLES = 100
_SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Strays:
    """How far n clean samples stray from the source at a place: the distance times n, its mean and spread."""

    mean: float
    spread: float


@dataclass(frozen=True, eq=False)
class SourceCard:
    """What is known of a base model on its source data.

    Attributes:
        base_fingerprint: of the model that the card was made with.
        sample_count: held-out source samples that it was made from.
        accuracy: on them, 0 to 1.
        mapped_accuracy: if each predicted class meant its most frequent label; a model that has learned
            its classes gains nothing by it.
        confidence: mean of the largest softmax output.
        confidence_spread: its standard deviation over samples.
        strays: place -> how far clean samples stray in :func:`distance`.
        gradients: block -> relative gradient norm on source samples, see :func:`relative_gradients`.
        tensors: ``site/<place>/mean`` and ``/variance`` (channels,); ``pixels/mean`` and ``/spread`` (4,);
            ``features/mean`` and ``/spread`` (d,); ``histogram`` (classes,), shares of predictions;
            ``confusion`` (classes, classes), share of class i that is called j.
    """

    base_fingerprint: str
    sample_count: int
    accuracy: float
    mapped_accuracy: float
    confidence: float
    confidence_spread: float
    strays: Mapping[str, Strays]
    gradients: Mapping[str, float]
    tensors: Mapping[str, Tensor]

    @property
    def places(self) -> tuple[str, ...]:
        """In the order in which the model runs them."""
        return tuple(self.strays)

    def array(self, key: str) -> Floats:
        """One of the tensors as an array."""
        return self.tensors[key].numpy()

    def distances(self, seen: Observation) -> dict[str, float]:
        """Place -> :func:`distance` of the samples' channels from the source's."""
        return {
            place: distance(
                self.array(f"site/{place}/mean"),
                self.array(f"site/{place}/variance"),
                *channel_moments(seen, place),
            )
            for place in self.places
        }

    def to_bytes(self) -> bytes:
        """The card as a ``.safetensors`` file."""
        fields = {k: v for k, v in vars(self).items() if k not in ("tensors", "strays")}
        strays = [[place, asdict(stray)] for place, stray in self.strays.items()]  # a list keeps the order
        header = {**fields, "strays": strays, "format_version": FORMAT_VERSION}
        return container.to_bytes("card", header, self.tensors)

    def save(self, path: str | Path) -> None:
        """Write the card, atomically."""
        container.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> SourceCard:
        """Read a card and check its checksum and version.

        Raises:
            CardError: missing, damaged, cut off, no card, or of an unknown version.
        """
        content = container.read(path, "card", FORMAT_VERSION, CardError)
        header, tensors = content.header, content.tensors
        del header["format_version"]
        header["strays"] = {place: Strays(**stray) for place, stray in header["strays"]}
        return cls(**header, tensors=tensors)

    def check(self, model: nn.Module) -> None:
        """Raise CardError unless the card was made with this model."""
        if fingerprint(model.state_dict()) != self.base_fingerprint:
            raise CardError("the source card was made with another base model: build one for this one")


def build_card(blocks: Blocks, samples: Samples, seed: int = 0) -> SourceCard:
    """Make a card from held-out source samples, labeled; the model stays as it is.

    Args:
        samples: none that the base was trained on, or its accuracy and confidence look too good. A few
            hundred do.

    Raises:
        DataError: too few samples, or samples that the model cannot take.
    """
    check_fits(blocks.model, samples)
    if len(samples) < LEAST_SAMPLES:
        raise DataError(f"{len(samples)} source samples are too few for a card; give {LEAST_SAMPLES} or more")
    seen = observe(blocks, samples, "float32")
    rng = np.random.default_rng(seed)
    tensors: dict[str, npt.NDArray[Any]] = {}
    strays = {}
    for place in seen.sites:
        mean, variance = channel_moments(seen, place)
        tensors[f"site/{place}/mean"], tensors[f"site/{place}/variance"] = mean, variance
        strays[place] = strays_of(seen, place, rng)
    for name, values in (("pixels", seen.pixels), ("features", seen.features)):
        tensors[f"{name}/mean"], tensors[f"{name}/spread"] = values.mean(0), values.std(0)
    called, sure = seen.logits.argmax(1), softmax(seen.logits).max(1)
    classes = seen.logits.shape[1]
    tensors["histogram"] = np.bincount(called, minlength=classes) / np.float32(len(called))
    tensors["confusion"] = confusion(samples.labels, called, classes)
    return SourceCard(
        base_fingerprint=fingerprint(blocks.model.state_dict()),
        sample_count=len(samples),
        accuracy=float((called == samples.labels).mean()),
        mapped_accuracy=mapped_accuracy(samples.labels, called, classes),
        confidence=float(sure.mean()),
        confidence_spread=float(sure.std()),
        strays=strays,
        gradients=relative_gradients(blocks, samples.subset(rng.permutation(len(samples))[:128])),
        tensors={key: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for key, v in tensors.items()},
    )


def channel_moments(
    seen: Observation, place: str, rows: npt.NDArray[np.int64] | slice = slice(None)
) -> tuple[Floats, Floats]:
    """Mean and variance of each channel at a place over (some of) the samples, both (channels,)."""
    means, squares = seen.sites[place]
    mean = means[rows].mean(0)
    return mean, np.maximum(squares[rows].mean(0) - mean**2, _SMALLEST_VARIANCE)


def distance(mean_a: Floats, variance_a: Floats, mean_b: Floats, variance_b: Floats) -> float:
    """Symmetric Kullback-Leibler divergence of two sets of Gaussian channels, mean over channels.

    Jeffreys (1946): half of ``va/vb + vb/va + (ma - mb)^2 (1/va + 1/vb) - 2`` for each channel.

    >>> one = np.ones(3, np.float32)
    >>> distance(one, one, one, one), distance(one, one, 2 * one, one)
    (0.0, 1.0)
    """
    a, b = np.maximum(variance_a, _SMALLEST_VARIANCE), np.maximum(variance_b, _SMALLEST_VARIANCE)
    terms = a / b + b / a + (mean_a - mean_b) ** 2 * (1 / a + 1 / b) - 2
    return float(terms.mean() / 2)


def relative_gradients(blocks: Blocks, samples: Samples) -> dict[str, float]:
    """Block -> norm of the loss's gradient over the norm of the weights, in evaluation mode.

    Auto-RGN of Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts" (2023),
    with a block's tensors taken together.
    """
    model = blocks.model
    with modes_restored(model), flags_restored(model), torch.enable_grad():
        model.eval().requires_grad_(True)
        x, y = samples.batch(slice(0, len(samples)))
        nn.functional.cross_entropy(model(x), y).backward()
        norms = {}
        for block in blocks:
            own = [p for name, p in model.named_parameters() if name in block.keys]
            weights = sum(float(p.detach().square().sum()) for p in own)
            gradient = sum(float(p.grad.square().sum()) for p in own if p.grad is not None)
            norms[block.name] = (gradient / max(weights, 1e-12)) ** 0.5
    return norms


def confusion(labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int) -> Floats:
    """Share of the samples of class i that are called j, (classes, classes); zeros for an absent class."""
    counts = np.zeros((classes, classes), np.float32)
    np.add.at(counts, (labels, called), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def mapped_accuracy(labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int) -> float:
    """Accuracy if each predicted class meant the label that the *other* samples so predicted have most.

    High where labels mean something else but mean it consistently (permuted, swapped, merged classes);
    a prediction that no other sample shares means itself. Ties count in part.

    >>> mapped_accuracy(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), 2)
    1.0
    """
    votes = 0.5 * np.eye(classes)
    np.add.at(votes, (called, labels), 1)
    rows = votes[called]
    rows[np.arange(len(labels)), labels] -= 1  # not its own
    best = rows >= rows.max(1, keepdims=True) - 1e-9
    return float((best[np.arange(len(labels)), labels] / best.sum(1)).mean())


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def strays_of(seen: Observation, place: str, rng: np.random.Generator) -> Strays:
    """Draws of clean samples against all of them; the distance falls with the number of samples."""
    whole = channel_moments(seen, place)
    drawn = min(DRAWN, len(seen) // 2)
    found = [
        drawn * distance(*whole, *channel_moments(seen, place, rng.permutation(len(seen))[:drawn]))
        for _ in range(DRAWS)
    ]
    return Strays(float(np.mean(found)), float(np.std(found)))
