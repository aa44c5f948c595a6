"""What a source card keeps of old classes: inputs of the head for source samples, one byte a number.

With them, tbft.add_classes learns new classes beside old ones, and measures what these lose. Random features
made from their means and spreads do neither: on them nothing seemed lost where a tenth of the accuracy was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tbft.diagnosis.observation import Observation
from tbft.errors import CardError

#: Maximum number of samples, and of bytes unless there would be fewer samples than `MIN_KEPT`.
MAX_KEPT, MAX_BYTES, MIN_KEPT = 2000, 500_000, 400
#: Prefix of the names of the tensors.
PREFIX = "classes/"


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """Inputs of the head (n, d) for source samples, and their labels (n,)."""

    features: Tensor
    labels: Tensor


def pack(seen: Observation, labels: npt.NDArray[np.int64], seed: int) -> dict[str, npt.NDArray[Any]]:
    """The tensors that a card keeps: a random part of the samples, each feature in 256 steps of its range."""
    features = seen.features
    count = min(MAX_KEPT, max(MIN_KEPT, MAX_BYTES // features.shape[1]))
    at = np.sort(np.random.default_rng(seed).permutation(len(features))[:count])
    low, high = features[at].min(0), features[at].max(0)
    step = np.maximum((high - low) / 255, np.finfo(np.float32).tiny)
    return {
        f"{PREFIX}features": np.rint((features[at] - low) / step).astype(np.uint8),
        f"{PREFIX}low": low,
        f"{PREFIX}step": step.astype(np.float32),
        f"{PREFIX}labels": np.asarray(labels[at], np.int32),
    }


def unpack(tensors: Mapping[str, Tensor], classes: int) -> ClassFeatures | None:
    """The features that a card keeps; None if it was built without them.

    Raises:
        CardError: they are not those of a head with this number of classes.
    """
    names = [PREFIX + name for name in ("features", "low", "step", "labels")]
    if names[0] not in tensors:
        return None
    empty = torch.zeros(())
    codes, low, step, labels = (tensors.get(name, empty) for name in names)
    count, width = codes.shape if codes.ndim == 2 else (-1, -1)
    wanted = [(torch.uint8, (count, width)), *[(torch.float32, (width,))] * 2, (torch.int32, (count,))]
    found = [(tensor.dtype, tensor.shape) for tensor in (codes, low, step, labels)]
    if found != wanted or not all(0 <= label < classes for label in labels.tolist()):
        raise CardError("the source card's features of classes are not usable: build the card again")
    return ClassFeatures(low + codes.float() * step, labels.long())
