"""Rows of a linear head for new classes, beside the old ones, which stay as they are.

An old class loses only what new ones attract: samples whose largest new logit exceeds the largest old one.
How many that are is counted on samples that the rows were not learned on, and the new biases are lowered
until an upper bound on the loss is small enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tbft.verification.binomial import binomial_cdf

#: Maximum loss of accuracy on old classes, and the probability that it is larger nevertheless.
MAX_OLD_LOSS, RISK = 0.01, 0.1
#: Weight decay of the rows, on features of unit variance.
DECAY = 1e-3


@dataclass(frozen=True, eq=False)
class Pool:
    """Inputs of the head.

    Attributes:
        features: (n, d).
        labels: (n,); new classes come after the old ones.
        logits: of the old classes (n, old classes).
        folds: (n,) the fold in which a sample is judged; -1: none.
        own: (n,) whether it is a sample of the user's rather than of the source card.
    """

    features: Tensor
    labels: Tensor
    logits: Tensor
    folds: Tensor
    own: Tensor

    @property
    def is_new(self) -> Tensor:
        """Whether each sample is of a new class (n,)."""
        return self.labels >= self.logits.shape[1]

    def __getitem__(self, at: Tensor) -> Pool:
        return Pool(*(getattr(self, name)[at] for name in vars(self)))

    def __add__(self, other: Pool) -> Pool:
        return Pool(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in vars(self)))


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples with the new logits of rows that were not learned on them."""

    pool: Pool
    new_logits: Tensor

    def __add__(self, other: Judged) -> Judged:
        return Judged(self.pool + other.pool, torch.cat([self.new_logits, other.new_logits]))

    def __getitem__(self, at: Tensor) -> Judged:
        return Judged(self.pool[at], self.new_logits[at])

    def __len__(self) -> int:
        return len(self.new_logits)

    def lowered(self, offset: Tensor) -> Judged:
        """The same with lower biases of new classes."""
        return replace(self, new_logits=self.new_logits - offset)

    @property
    def correct_before(self) -> Tensor:
        """Whether the old head is right (n,)."""
        return self.pool.logits.argmax(1) == self.pool.labels

    @property
    def correct_after(self) -> Tensor:
        """Whether the larger head is right (n,)."""
        return torch.cat([self.pool.logits, self.new_logits], dim=1).argmax(1) == self.pool.labels

    @property
    def lost(self) -> int:
        """Number of samples on which only the old head is right."""
        return int((self.correct_before & ~self.correct_after).sum())


@dataclass(frozen=True, eq=False)
class Rows:
    """Weights (new classes, d) and biases (new classes,)."""

    weight: Tensor
    bias: Tensor

    def judge(self, pool: Pool) -> Judged:
        """New logits of samples."""
        return Judged(pool, nn.functional.linear(pool.features, self.weight, self.bias))

    def lowered(self, offset: Tensor) -> Rows:
        """The same with lower biases."""
        return replace(self, bias=self.bias - offset)


def learn_rows(pool: Pool, count: int) -> Rows:
    """Logistic regression with fixed old logits, in which all classes have the same weight."""
    mean, spread = pool.features.mean(0), pool.features.std(0).clamp_min(1e-3)
    x, old = (pool.features - mean) / spread, pool.logits
    weight = torch.zeros(count, x.shape[1], requires_grad=True)
    bias = torch.full((count,), float(old.max(1).values.median()), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=50, line_search_fn="strong_wolfe")
    weights = (1 / torch.bincount(pool.labels, minlength=old.shape[1] + count).clamp_min(1))[pool.labels]

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.cat([old, nn.functional.linear(x, weight, bias)], dim=1)
        each = nn.functional.cross_entropy(logits, pool.labels, reduction="none")
        total = (each * weights).sum() / weights.sum() + DECAY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    rows = (weight / spread).detach()
    return Rows(rows, bias.detach() - rows @ mean)


def judge_in_folds(pool: Pool, count: int) -> Judged:
    """Each sample judged by rows learned on the other folds; those in no fold are left out."""

    def judged() -> Iterator[Judged]:
        for k in range(int(pool.folds.max()) + 1):
            yield learn_rows(pool[pool.folds != k], count).judge(pool[pool.folds == k])

    first, *others = judged()
    for other in others:
        first = first + other
    return first


def max_lost(count: int) -> int:
    """How many of `count` old samples may be lost, for a loss of at most `MAX_OLD_LOSS` at a risk of `RISK`.

    -1 where even no loss would not show that.

    >>> [max_lost(n) for n in (100, 230, 500, 1000, 2000)]
    [-1, 0, 1, 5, 13]
    """
    lost = -1
    while lost < count and binomial_cdf(lost + 1, count, MAX_OLD_LOSS) <= RISK:
        lost += 1
    return lost


def find_offset(old: Judged) -> Tensor:
    """How much to lower the new biases, so that few enough samples of old classes are lost.

    Of all samples as many as :func:`max_lost` allows, of the user's own at most their share.

    Args:
        old: samples of old classes, enough for :func:`max_lost`.
    """
    return torch.stack(
        [
            torch.zeros(()),
            _excess(old, max_lost(len(old))),
            _excess(old[old.pool.own], int(MAX_OLD_LOSS * int(old.pool.own.sum()))),
        ]
    ).max()


def _excess(old: Judged, allowed: int) -> Tensor:
    """The offset at which no more than `allowed` samples are lost."""
    old = old[old.correct_before]
    if len(old) <= allowed:
        return torch.zeros(())
    excess = old.new_logits.max(1).values - old.pool.logits.max(1).values
    # Where both logits are equal, the old class, which comes first, wins.
    return excess.sort(descending=True).values[allowed]
