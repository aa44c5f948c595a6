"""Seeded, stratified splits into train, val and test that share no sample and no group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.amounts import Amount, parse_amount
from tbft.data.samples import Samples
from tbft.errors import DataError

#: Attributes that are groups by nature: samples of one of them resemble each other too much.
GROUP_KEYS = ("group", "groups", "subject", "person", "user", "place", "series", "picture")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Parts:
    """Disjoint parts of one set, empty where nothing is held out. Nothing that chooses may see `test`.

    Attributes:
        notes: what was held out and how.
    """

    train: Samples
    val: Samples
    test: Samples
    seed: int
    group_by: str | None
    notes: tuple[str, ...] = ()


def split_samples(
    samples: Samples,
    train: str | float | Amount = "0.1",
    val: str | float | Amount = "0.15",
    test: str | float | Amount = "0.15",
    seed: int = 0,
    group_by: str | None = None,
) -> Parts:
    """Split samples into train, val and test.

    Stratified by class: each part has the classes in the proportions of the whole. With `group_by`,
    an attribute, no group lies in two parts; amounts then are met as closely as whole groups
    allow. Default: the first of ``group subject person user place series picture`` that has two or more
    values; ``"none"`` splits at random all the same.

    The test part is drawn first, so for one seed it stays the same whatever the other amounts.

    Raises:
        DataError: the amounts exceed the samples, or a part would be empty that should not be.
    """
    asked = {"test": parse_amount(test), "val": parse_amount(val), "train": parse_amount(train)}
    if asked["test"].is_rest or asked["val"].is_rest:
        raise DataError("only the train part can be the rest: test and val are drawn before it")
    group_by = _group_key(samples, group_by)
    generator = np.random.default_rng(seed)
    groups = None if group_by is None else samples.attributes[group_by]
    taken = (
        _by_class(samples, asked, generator)
        if groups is None
        else _by_group(samples, groups, asked, generator)
    )
    for name, indices in taken.items():
        if len(indices) == 0 and not asked[name].is_nothing:
            raise DataError(f"{samples.name}: the {name} part ({asked[name]}) would be empty; ask for more")
    parts = {name: samples.subset(np.sort(indices)) for name, indices in taken.items()}
    return Parts(parts["train"], parts["val"], parts["test"], seed, group_by)


def held_out(samples: Samples, count: int, seed: int, group_by: str | None) -> Indices:
    """Positions of about `count` samples to hold out, of which every class keeps one for training.

    By whole groups where there are at least two; none where too few samples are left.
    """
    generator = np.random.default_rng(seed)
    if group_by is not None and count:
        groups = samples.attributes[group_by]
        if len(np.unique(groups)) > 1:
            asked = {"val": Amount(count=count), "train": Amount()}
            return np.sort(_by_group(samples, groups, asked, generator)["val"])
    classes, sizes = np.unique(samples.labels, return_counts=True)
    spare = sizes - 1
    counts = _counts(
        Amount(count=min(count, int(spare.sum()))), sizes, spare, f"{samples.name}: the val part"
    )
    pools = [generator.permutation(np.flatnonzero(samples.labels == c)) for c in classes]
    return np.sort(np.concatenate([pool[:n] for pool, n in zip(pools, counts, strict=True)]))


def _group_key(samples: Samples, group_by: str | None) -> str | None:
    if group_by == "none":
        return None
    if group_by is not None:
        if group_by not in samples.attributes:
            known = ", ".join(samples.attributes) or "none"
            raise DataError(f"{samples.name}: cannot split by {group_by!r}; its attributes are: {known}")
        return group_by
    for key in GROUP_KEYS:
        # Groups of one sample each would only spoil the stratification.
        if key in samples.attributes and 1 < len(set(samples.attributes[key].tolist())) < len(samples):
            return key
    return None


def _by_class(
    samples: Samples, asked: dict[str, Amount], generator: np.random.Generator
) -> dict[str, Indices]:
    classes = [np.flatnonzero(samples.labels == c) for c in np.unique(samples.labels)]
    pools = [generator.permutation(members) for members in classes]
    sizes = np.array([len(pool) for pool in pools])
    start = np.zeros(len(pools), dtype=np.int64)
    taken = {}
    for name, amount in asked.items():
        counts = _counts(amount, sizes, sizes - start, f"{samples.name}: the {name} part")
        chosen = [pool[s : s + n] for pool, s, n in zip(pools, start, counts, strict=True)]
        taken[name] = np.concatenate(chosen)
        start += counts
    return taken


def _counts(amount: Amount, sizes: Indices, left: Indices, what: str) -> Indices:
    """How many samples of each class a part takes, in proportion to the class sizes."""
    if amount.is_rest:
        counts = left.copy()
    elif amount.per_class is not None:
        counts = np.full(len(sizes), amount.per_class, dtype=np.int64)
    else:
        total = int(sizes.sum())
        wanted = amount.count if amount.count is not None else round((amount.fraction or 0.0) * total)
        if wanted > left.sum():
            raise DataError(f"{what} needs {wanted} samples, but {int(left.sum())} are left; ask for less")
        exact = wanted * sizes / total
        counts = np.minimum(np.floor(exact).astype(np.int64), left)
        # What is short goes, one by one, to the class furthest below its share that has samples left.
        while counts.sum() < wanted:
            counts[np.argmax(np.where(counts < left, exact - counts, -np.inf))] += 1
    if (counts > left).any():
        c = int(np.argmax(counts - left))
        raise DataError(f"{what} needs {counts[c]} samples of a class that has {left[c]} left; ask for less")
    return counts


def _wanted(amount: Amount, samples: Samples) -> int:
    """Samples that a part asks for in all."""
    if amount.is_rest:
        return len(samples)
    if amount.per_class is not None:
        return amount.per_class * len(np.unique(samples.labels))
    return amount.count if amount.count is not None else round((amount.fraction or 0.0) * len(samples))


def _by_group(
    samples: Samples, groups: npt.NDArray[Any], asked: dict[str, Amount], generator: np.random.Generator
) -> dict[str, Indices]:
    members = [np.flatnonzero(groups == g) for g in generator.permutation(np.unique(groups))]
    parts = [name for name, amount in asked.items() if not amount.is_nothing]
    if len(members) < len(parts):
        raise DataError(
            f"{samples.name}: {len(members)} groups cannot make {len(parts)} parts that share none; "
            "give more groups, fewer parts, or another --group-by"
        )
    total = sum(_wanted(asked[name], samples) for name in parts if not asked[name].is_rest)
    if total > len(samples):
        raise DataError(f"{samples.name}: {total} samples are asked for in all, it has {len(samples)}")
    taken: dict[str, Indices] = {name: np.zeros(0, dtype=np.int64) for name in asked}
    for name in parts:
        wanted = _wanted(asked[name], samples)
        after = len(parts) - 1 - parts.index(name)
        chosen: list[Indices] = []
        size = 0
        # Take groups while that brings the part nearer to what was asked, leaving one for each later part.
        while len(members) > after and (
            not chosen or abs(size + len(members[0]) - wanted) < abs(size - wanted)
        ):
            chosen.append(members.pop(0))
            size += len(chosen[-1])
        taken[name] = np.concatenate(chosen)
    return taken
