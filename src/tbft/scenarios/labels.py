"""Label drift: the meaning or the frequency of classes changes; the inputs stay the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.samples import Samples
from tbft.errors import DataError, unknown
from tbft.scenarios.drift import Drift, generators, no_argument, number, register

Order = npt.NDArray[np.int64]


def reversal(classes: int) -> Order:
    """Class i becomes ``classes - 1 - i`` (CIFAR-Flip of Huang et al. 2024, after Lee et al. 2022).

    >>> reversal(4)
    array([3, 2, 1, 0])
    """
    return np.arange(classes)[::-1].copy()


def permutation(classes: int, seed: int) -> Order:
    """A seeded permutation of the classes that moves at least one class.

    >>> permutation(3, 0)
    array([2, 0, 1])
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(classes)
    while classes > 1 and np.array_equal(order, np.arange(classes)):
        order = generator.permutation(classes)
    return order


def pair_swaps(classes: int, share: float, seed: int) -> Order:
    """Swap seeded pairs of classes; a `share` of the classes takes part, at least one pair.

    >>> pair_swaps(6, 1.0, 0), pair_swaps(6, 0.3, 0)
    (array([1, 0, 3, 2, 5, 4]), array([0, 1, 3, 2, 4, 5]))
    """
    pairs = max(1, round(share * classes / 2)) if classes > 1 else 0
    pairs = min(pairs, classes // 2)
    order = np.arange(classes)
    swapped = np.random.default_rng(seed).permutation(classes)[: 2 * pairs].reshape(pairs, 2)
    order[swapped] = swapped[:, ::-1]
    return order


def class_prior(classes: int, concentration: float, seed: int) -> npt.NDArray[np.float64]:
    """Class shares drawn from a symmetric Dirichlet distribution; low concentrations give uneven shares.

    >>> class_prior(3, 0.5, 0).round(2)
    array([0.31, 0.  , 0.69])
    """
    # At tiny concentrations all gamma draws underflow to 0, and 0 / 0 is not a distribution.
    return np.random.default_rng(seed).dirichlet(np.full(classes, max(concentration, 1e-2)))


def relabel(samples: Samples, order: Order) -> Samples:
    """Class c becomes ``order[c]``."""
    return replace(samples, labels=order[samples.labels])


def add_noise(samples: Samples, share: float, seed: int) -> Samples:
    """Replace each label by another class with probability `share` (symmetric label noise)."""
    classes = len(samples.class_names)
    if classes < 2:
        raise DataError(f"{samples.name} has {classes} class; label noise needs two or more")
    labels = samples.labels.copy()
    for i, rng in enumerate(generators(samples, seed)):
        if rng.random() < share:
            labels[i] = (labels[i] + rng.integers(1, classes)) % classes
    return replace(samples, labels=labels)


def shift_prior(samples: Samples, concentration: float, seed: int) -> Samples:
    """Keep each sample with a probability proportional to the new share of its class.

    All samples of the most frequent class are kept. Samples that were balanced end up with the shares of
    :func:`class_prior`, up to chance. The result for a sample depends neither on the order nor on the other
    samples.
    """
    shares = class_prior(len(samples.class_names), concentration, seed)
    chance = (shares / shares.max())[samples.labels]
    drawn = np.array([rng.random() for rng in generators(samples, seed)])
    if not (drawn < chance).any():
        raise DataError(f"{samples.name}: this class prior leaves none of its {len(samples)} samples")
    return samples.subset(np.flatnonzero(drawn < chance))


def merge(samples: Samples, pair: tuple[str, str] | None, seed: int) -> Samples:
    """Merge two classes into one, named ``a/b``, at the lower index.

    The higher index stays without samples, so that labels still fit the model's outputs.

    Args:
        pair: names or numbers of the classes; None: two classes drawn with `seed`.
    """
    classes = len(samples.class_names)
    if classes < 2:
        raise DataError(f"{samples.name} has {classes} class; a merge needs two or more")
    if pair is None:
        first, second = np.random.default_rng(seed).permutation(classes)[:2]
    else:
        first, second = (_index(samples, name) for name in pair)
    if first == second:
        raise DataError(f"{samples.name}: a class cannot be merged with itself ({pair})")
    low, high = sorted((int(first), int(second)))
    order = np.arange(classes)
    order[high] = low
    names = list(samples.class_names)
    names[low] = f"{names[low]}/{names[high]}"
    return replace(relabel(samples, order), class_names=tuple(names))


def _index(samples: Samples, name: str) -> int:
    if name in samples.class_names:
        return samples.class_names.index(name)
    if name.isdecimal() and int(name) < len(samples.class_names):
        return int(name)
    raise DataError(f"{samples.name}: {unknown('class', name, samples.class_names)}")


def _pair(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    first, colon, second = text.partition(":")
    if not (first and colon and second) or ":" in second:
        raise ValueError(f"two classes have to follow, by name or number, not {text!r}")
    return first, second


def _reverse(samples: Samples, argument: Any, seed: int) -> Samples:
    return relabel(samples, reversal(len(samples.class_names)))


def _permute(samples: Samples, argument: Any, seed: int) -> Samples:
    return relabel(samples, permutation(len(samples.class_names), seed))


def _swap(samples: Samples, share: float, seed: int) -> Samples:
    return relabel(samples, pair_swaps(len(samples.class_names), share, seed))


_label = partial(Drift, level="output")
_share = partial(number, "the share", 0, 1)

register(
    _label("labels:reverse", apply=_reverse, parse=no_argument, usage="labels:reverse",
           examples=("labels:reverse",), summary="the classes in reverse order",
           source="Huang et al. 2024, CIFAR-Flip; Lee et al. 2022")
)  # fmt: skip
register(
    _label("labels:permute", apply=_permute, parse=no_argument, usage="labels:permute",
           examples=("labels:permute",), summary="the classes in a seeded order", source="")
)  # fmt: skip
register(
    _label("labels:swap", apply=_swap, parse=_share(1.0), usage="labels:swap[:SHARE]",
           examples=("labels:swap", "labels:swap:0.4"),
           summary="seeded pairs of classes swapped, of all classes or a share of them", source="")
)  # fmt: skip
register(
    _label("labels:noise", apply=add_noise, parse=_share(), usage="labels:noise:SHARE",
           examples=("labels:noise:0.2", "labels:noise:0.5"),
           summary="a share of the labels wrong at random",
           source="symmetric noise, Patrini et al. 2017")
)  # fmt: skip
register(
    _label("labels:prior", apply=shift_prior, parse=number("the concentration", 0, 1000),
           usage="labels:prior:CONCENTRATION", examples=("labels:prior:0.5", "labels:prior:5"),
           summary="class shares drawn from a Dirichlet distribution",
           source="Lipton et al. 2018")
)  # fmt: skip
register(
    _label("labels:merge", apply=merge, parse=_pair, usage="labels:merge[:CLASS:CLASS]",
           examples=("labels:merge", "labels:merge:0:2"),
           summary="two classes merged into one, seeded or named", source="")
)  # fmt: skip
