"""Label drift: what the classes mean changes, the inputs stay. The ``labels:...`` drifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tbft.data.drift import Drift, Relabelling, register
from tbft.data.samples import Samples

Labels = npt.NDArray[np.int64]


def reverse(labels: Labels, classes: int, seed: int) -> Labels:
    """Class i becomes ``classes - 1 - i`` (CIFAR-Flip of Huang et al. 2024, after Lee et al. 2022).

    >>> reverse(np.array([0, 1, 9]), 10, 0)
    array([9, 8, 0])
    """
    return classes - 1 - labels


def permute(labels: Labels, classes: int, seed: int) -> Labels:
    """A seeded permutation of the classes that moves at least one of them.

    >>> permute(np.array([0, 1, 2]), 3, 0)
    array([2, 0, 1])
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(classes)
    while classes > 1 and np.array_equal(order, np.arange(classes)):
        order = generator.permutation(classes)
    return order[labels]


RELABELLINGS: dict[str, Relabelling] = {"reverse": reverse, "permute": permute}


def _apply(samples: Samples, argument: str, seed: int) -> Samples:
    relabelled = RELABELLINGS[argument](samples.labels, len(samples.class_names), seed)
    return replace(samples, labels=relabelled)


register(
    Drift(
        name="labels",
        level="output",
        apply=_apply,
        arguments=tuple(RELABELLINGS),
        summary="the classes change their meaning",
        source="Huang et al. 2024 (reverse: CIFAR-Flip); Lee et al. 2022",
    )
)
