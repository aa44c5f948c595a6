"""How the accuracy of a cheap head grows with the number of labels, measured on the labels at hand.

The head is the base's own, moved by ridge regression in closed form as far as the labels say so: with no
label it is the base, and with many it is a new head. It needs features and logits of the samples, computed
once, and takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: How strongly ridge regression on d standardized features holds on to the base's head, in units of d. Of 0.5
#: to 15, this was near the best at 1 to 50 labels a class on motion and on corrupted pictures (d = 64).
RIDGE = 5.0
#: Random assignments to folds, in all.
FITS = 12


class Point(NamedTuple):
    """Accuracy on samples that were left out, with so many labels per class on average."""

    labels_per_class: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class HeadProblem:
    """What heads are fitted to.

    Attributes:
        kernel: (n, n) inner products of standardized features, with a constant one.
        base: (n, classes) logits of the base around their mean.
        targets: (n, classes) one-hot labels around their mean.
        labels: (n,).
        ridge: what is added to the kernel's diagonal.
    """

    kernel: Floats
    base: Floats
    targets: Floats
    labels: Ints
    ridge: float

    def correct(self, rows: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Whether a head fitted to `rows` is right on the `others`."""
        base, targets = self.base[rows], self.targets[rows]
        slope = max(0.0, float((base * targets).sum() / ((base * base).sum() + 1e-9)))
        regularized = self.kernel[np.ix_(rows, rows)] + self.ridge * np.eye(len(rows))
        solution = np.linalg.solve(regularized, targets - slope * base)
        scores = self.kernel[np.ix_(others, rows)] @ solution + slope * self.base[others]
        return np.asarray(scores.argmax(1) == self.labels[others])


def head_problem(features: npt.ArrayLike, logits: npt.ArrayLike, labels: Ints) -> HeadProblem:
    """The problem for features (n, d), logits (n, classes) and labels (n,) of the same samples."""
    features, logits = np.asarray(features, np.float64), np.asarray(logits, np.float64)
    x = (features - features.mean(0)) / (features.std(0) + 1e-3)
    targets = np.eye(logits.shape[1])[labels] - 1 / logits.shape[1]
    base = logits - logits.mean(1, keepdims=True)
    return HeadProblem(x @ x.T + 1, base, targets, labels, RIDGE * x.shape[1])


def learning_curve(problem: HeadProblem, in_time: bool = False, seed: int = 0) -> list[Point]:
    """Accuracy of the base (no labels), and of heads fitted to a part of the labels, on the other part.

    Args:
        in_time: the samples of a class are in order of time, and folds are stretches of it; otherwise folds
            are drawn at random, several times.
        seed: random seed for drawing folds.
    """
    labels = problem.labels
    counts = np.unique(labels, return_counts=True)[1]
    points = [Point(0.0, float((problem.base.argmax(1) == labels).mean()))]
    generator = np.random.default_rng(seed)
    for fold_count, is_few in _parts(int(np.median(counts))):
        hits, seen, sizes = np.zeros(len(labels)), np.zeros(len(labels)), []
        for _ in range(1 if in_time else max(1, FITS // fold_count)):
            folds = _folds(labels, fold_count, None if in_time else generator)
            for inside in (folds == fold for fold in range(fold_count)):
                rows, others = np.flatnonzero(inside == is_few), np.flatnonzero(inside != is_few)
                if len(rows) > 1 and len(others):
                    hits[others] += problem.correct(rows, others)
                    seen[others] += 1
                    sizes.append(len(rows) / len(counts))
        if sizes:
            points.append(Point(float(np.mean(sizes)), float((hits[seen > 0] / seen[seen > 0]).mean())))
    return sorted(points)


def _parts(per_class: int) -> Iterator[tuple[int, bool]]:
    """Numbers of folds, and whether heads are fitted to one of them or to all the others."""
    if per_class >= 4:
        yield 4, True
    if per_class >= 2:
        yield 2, False
        yield min(per_class, 4) if per_class > 2 else 2, False
    if per_class >= 10:
        yield 10, False


def _folds(labels: Ints, count: int, generator: np.random.Generator | None) -> Ints:
    """The fold of each sample, (n,): as even as possible within classes; without a generator, in order.

    >>> _folds(np.array([0, 0, 0, 0, 1, 1]), 2, None)
    array([0, 0, 1, 1, 0, 1])
    """
    folds = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        place = np.arange(len(own)) * count // max(len(own), count)
        if generator is not None:
            own = generator.permutation(own)
            place = place if len(own) >= count else (place + generator.integers(count)) % count
        folds[own] = place
    return folds
