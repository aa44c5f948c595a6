"""Adapt a classifier that was trained with skorch, and keep using it through skorch.

    pip install tbft skorch
    python examples/skorch_classifier.py

skorch keeps a plain module in `net.module_`. It is adapted in place of the whole net; the patch goes on
and off while the net stays a scikit-learn estimator.
"""

from __future__ import annotations

import numpy as np
from skorch import NeuralNetClassifier
from torch import Tensor, nn

import tbft


class Net(nn.Module):
    """Two blocks over 12 features; skorch wants logits with its criterion CrossEntropyLoss."""

    cuts = ("rear",)
    block_names = ("front", "rear")

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.rear = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rear(self.front(x))


def main() -> None:
    x, y = measurements(900, seed=0)
    net = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, lr=0.1, max_epochs=8, verbose=0)
    net.fit(x, y)
    net.module_.eval()

    here, labels = measurements(300, seed=1)
    here = 0.5 * here + 1.0  # another sensor: half the gain, and an offset
    result = tbft.personalize(net.module_, (here, labels), arm="front", test=0.4)
    print(result)
    print(f"skorch, base:  accuracy {net.score(here, labels):.2f}")
    with result.patch.applied(net.module_):
        print(f"skorch, tuned: accuracy {net.score(here, labels):.2f}")
    print(f"skorch, again: accuracy {net.score(here, labels):.2f}")


def measurements(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, 12) of three classes, and their class numbers."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(0, 1.5, (3, 12))
    labels = np.arange(count) % 3
    return (centers[labels] + rng.normal(0, 1, (count, 12))).astype(np.float32), labels


if __name__ == "__main__":
    main()
