"""A seeded search for groups that leave no class out: of the part they make, and of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

#: Number of changes to try, and how many between checks whether anything is still missing.
_TRIES, _ROUND = 1500, 100


@dataclass(frozen=True)
class Target:
    """What the groups of a part should achieve.

    Attributes:
        wanted: number of samples in the part.
        part_weight, rest_weight: of a class that is missing in the part, or in the rest.
    """

    wanted: int
    part_weight: int
    rest_weight: int


def covering(
    counts: Indices, order: list[int], chosen: list[int], target: Target, generator: np.random.Generator
) -> list[int]:
    """The chosen groups, or others about as large that leave fewer classes out.

    Args:
        counts: samples of each class in each group, (groups, classes).
        order: the groups to choose from.
        chosen: those that are kept where no class is missing.
    """
    own = counts[order]
    search = _Search(own[:, own.sum(0) > 0], np.isin(order, chosen), target)
    for tried in range(_TRIES):
        if tried % _ROUND == 0 and search.is_complete:
            break
        search.attempt(generator)
    return [g for g, taken in zip(order, search.inside, strict=True) if taken]


class _Search:
    """Changes the groups of a part as long as that makes it no worse."""

    def __init__(self, counts: Indices, inside: npt.NDArray[np.bool_], target: Target) -> None:
        self.counts, self.inside, self.target = counts, inside, target
        self.sizes, self.total = counts.sum(1), counts.sum(0)
        self.part = counts[inside].sum(0)
        # As far from the amount as the first choice, or half the largest group.
        self.allowed = max(abs(int(self.part.sum()) - target.wanted), int(self.sizes.max(initial=0)) // 2)
        alone = int(((counts > 0).sum(0) == 1).sum())  # classes of one group cannot be on both sides
        self.unavoidable = alone * min(target.part_weight, target.rest_weight)
        self.score = self._score(self.part)

    @property
    def is_complete(self) -> bool:
        """Whether no class is missing that could be there."""
        return self.score < 1 + self.unavoidable

    def attempt(self, generator: np.random.Generator) -> None:
        """Move a group in or out, or exchange two, and keep that if it makes the part no worse."""
        changed = self._change(generator)
        signs = np.where(self.inside[changed], -1, 1)
        part = self.part + (signs[:, None] * self.counts[changed]).sum(0)
        count = int(self.inside.sum() + signs.sum())
        if 0 < count < len(self.inside) and (score := self._score(part)) <= self.score:
            self.inside[changed] ^= True
            self.part, self.score = part, score

    def _score(self, part: Indices) -> float:
        """How far the part is from what is asked of it; below 1 where no class is missing."""
        size, rest = int(part.sum()), self.total - part
        off = abs(size - self.target.wanted)
        missing = self.target.rest_weight * int((rest == 0).sum())
        missing += self.target.part_weight * int((part == 0).sum())
        uneven = float(np.abs(part / max(size, 1) - self.total / self.total.sum()).sum()) / 2
        return (
            missing + 1000 * max(0, off - self.allowed) + 0.4 * uneven + 0.4 * off / (off + self.allowed + 1)
        )

    def _change(self, generator: np.random.Generator) -> Indices:
        """Groups to move, mostly one of a class that is missing on the other side."""
        lacking = np.flatnonzero(self.part == 0), np.flatnonzero(self.part == self.total)
        which = int(generator.integers(2))
        here = self.inside == bool(which)
        candidates, others = np.flatnonzero(here), np.flatnonzero(~here)
        if len(lacking[which]) and generator.random() < 0.8:
            candidates = candidates[self.counts[candidates, generator.choice(lacking[which])] > 0]
        sides = [candidates, others] if generator.random() < 0.5 else [candidates]
        return np.array([generator.choice(side) for side in sides if len(side)], dtype=np.int64)
