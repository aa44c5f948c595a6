"""Source cards made from samples, and a stand-in for a missing one made from the model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.blocks.tensors import fingerprint
from tbft.data.input_statistics import input_statistics
from tbft.data.prepared import prepared
from tbft.data.samples import Samples
from tbft.diagnosis import class_features
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.divergence import channel_moments, clean_distance
from tbft.diagnosis.observation import Floats, Observation, observe
from tbft.diagnosis.predictions import mapped_accuracy, softmax
from tbft.errors import DataError
from tbft.verification.compatibility import check_fits
from tbft.verification.suspicion import check_accuracy_on_source

#: Fewer samples would describe neither channels nor classes well enough.
MIN_SAMPLES = 100
#: Maximum number of scalars in the classes' mean features, which limits the size of the card.
MAX_CLASS_NUMBERS = 100_000


def _class_features(seen: Observation, samples: Samples) -> tuple[Floats, Floats]:
    """Mean input of the head for each class (classes, d), and the standard deviation within classes (d,)."""
    features, labels = seen.features, samples.labels
    classes = range(seen.logits.shape[1])
    # A class without samples gets the mean of all samples.
    by_class = [features[labels == c] if (labels == c).any() else features for c in classes]
    mean = np.stack([rows.mean(0) for rows in by_class])
    return mean, (features - mean[labels]).std(0)


def card_of_samples(blocks: Blocks, samples: Samples, seed: int = 0) -> SourceCard:
    """Build a card from labeled, held-out source samples; the model is not changed.

    Args:
        samples: a few hundred are enough. The base must not have been trained on them, or its accuracy and
            confidence look too good.

    Raises:
        DataError: too few samples, samples that the model cannot take, or samples on which its accuracy is at
            chance, see :func:`~tbft.verification.suspicion.check_accuracy_on_source`.
    """
    if samples.targets is not None:
        raise DataError("a source card is made from class labels; for another task go without a card")
    check_fits(blocks, samples)
    if len(samples) < MIN_SAMPLES:
        raise DataError(f"{len(samples)} source samples are too few for a card; give {MIN_SAMPLES} or more")
    seen = observe(blocks, samples, "float32")
    if not seen.layers:
        raise DataError(
            "a source card describes the inputs of BatchNorms or of later blocks, and the model has neither: "
            "cut it in two (cuts=, --cuts), or go without a card"
        )
    notes = check_accuracy_on_source(blocks, samples, torch.from_numpy(seen.logits))
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for layer in seen.layers:
        mean, variance = channel_moments(seen, layer)
        arrays[f"site/{layer}/mean"], arrays[f"site/{layer}/variance"] = mean, variance
    arrays["pixels/mean"], arrays["pixels/spread"] = seen.pixels.mean(0), seen.pixels.std(0)
    if seen.logits.shape[1] * seen.features.shape[1] <= MAX_CLASS_NUMBERS:
        arrays["classes/mean"], arrays["classes/spread"] = _class_features(seen, samples)
    arrays = {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    arrays |= class_features.pack(seen, samples.labels, seed)
    predicted, confidence = seen.logits.argmax(1), softmax(seen.logits).max(1)
    card = SourceCard(
        base_fingerprint=fingerprint(blocks.model.state_dict()),
        sample_count=len(samples),
        accuracy=float((predicted == samples.labels).mean()),
        mapped_accuracy=mapped_accuracy(samples.labels, predicted, seen.logits.shape[1]),
        confidence=float(confidence.mean()),
        confidence_spread=float(confidence.std()),
        clean={layer: clean_distance(seen, layer, rng) for layer in seen.layers},
        tensors={key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in arrays.items()},
        preprocessing=prepared(samples),
        inputs=None if samples.token_ids or samples.packing else input_statistics(samples),
        notes=notes,
    )
    card.check_tensors("the model's outputs")
    return card


def card_of_model(blocks: Blocks, seen: Observation) -> SourceCard:
    """A stand-in for a missing card, from the model's BatchNorm statistics; without any, it has no layers.

    The distance of clean samples is estimated from the samples at hand, accuracy from their confidence.
    """
    known = set(batch_norms(blocks.model))
    norms = {name: m for name, m in blocks.model.named_modules() if m in known}
    rng = np.random.default_rng(0)
    confidence = float(softmax(seen.logits).max(1).mean())
    tensors = {}
    for name, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        tensors[f"site/{name}/mean"], tensors[f"site/{name}/variance"] = norm.running_mean, norm.running_var
    return SourceCard(
        base_fingerprint=fingerprint(blocks.model.state_dict()),
        sample_count=0,
        accuracy=confidence,
        mapped_accuracy=confidence,
        confidence=confidence,
        confidence_spread=float(softmax(seen.logits).max(1).std()),
        clean={name: clean_distance(seen, name, rng) for name in norms},
        tensors={key: tensor.detach().to(torch.float32).clone() for key, tensor in tensors.items()},
    )
