"""What a model's predictions and features say about labels: pure functions of arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tbft.diagnosis.observation import Floats
from tbft.verification.ridge import regress

Labels = npt.NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def mapped_accuracy(labels: Labels, predicted: Labels, classes: int) -> float:
    """Accuracy if each predicted class meant the most frequent label of the *other* samples predicted as it.

    It is high where labels mean something else consistently (permuted, swapped or merged classes). A class
    predicted for one sample only means itself. Ties count in part.

    >>> mapped_accuracy(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), 2)
    1.0
    """
    votes = 0.5 * np.eye(classes)
    np.add.at(votes, (predicted, labels), 1)
    rows = votes[predicted]
    rows[np.arange(len(labels)), labels] -= 1  # without the sample's own vote
    best = rows >= rows.max(1, keepdims=True) - 1e-9
    return float((best[np.arange(len(labels)), labels] / best.sum(1)).mean())


def confidence_lost(probabilities: Floats, source_confidence: float, source_spread: float) -> float:
    """How far the mean confidence lies below the source's, in standard errors.

    Drift of the inputs makes a model less confident; labels that mean something else do not.

    >>> confidence_lost(np.array([[0.5, 0.5]] * 4, np.float32), 0.9, 0.2)
    4.0
    """
    lost = source_confidence - float(probabilities.max(1).mean())
    return lost / (max(source_spread, 1e-6) / len(probabilities) ** 0.5)


def probe_accuracy(features: Floats, labels: Labels, classes: int) -> float:
    """Leave-one-out accuracy of a ridge regression from features to one-hot labels.

    >>> x = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    >>> probe_accuracy(np.repeat(x, 20, axis=0), np.repeat([0, 0, 1, 1], 20), 2)
    1.0
    """
    return float((regress(features, labels, classes).left_out.argmax(1) == labels).mean())
