"""Exact copies among samples: found by a hash of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tbft.data.lazy import CHUNK, as_lazy, content_hash
from tbft.data.samples import Samples

Indices = npt.NDArray[np.int64]


def digests(samples: Samples) -> Iterator[bytes]:
    """A hash of each sample's input as it was read; empty for one without content, all values equal.

    Drifts applied to two copies of a photo may differ; they are copies all the same.
    """
    if samples.hashes is not None:
        yield from samples.hashes
        return
    lazy = as_lazy(samples.inputs)
    if lazy is not None and lazy.hashes is not None:
        yield from lazy.hashes
        return
    for start in range(0, len(samples), CHUNK):
        yield from map(content_hash, np.asarray(samples.inputs[start : start + CHUNK]))


def with_hashes(samples: Samples) -> Samples:
    """The same samples with hashes, so that copies are still found after their inputs are changed."""
    if samples.hashes is not None:
        return samples
    hashes = np.empty(len(samples), dtype=object)
    hashes[:] = list(digests(samples))
    return replace(samples, hashes=hashes)


@dataclass(frozen=True, eq=False)
class Copies:
    """Which samples of a set are exact copies of others.

    Attributes:
        first: for each sample the position of the first one with the same input.
        clusters: positions of the samples of each input that is there more than once.
    """

    first: Indices
    clusters: Sequence[Indices]

    @classmethod
    def of(cls, first: Indices) -> Copies | None:
        """From the first copy of each sample; None where there is no copy."""
        return cls(first, found) if (found := clusters(first)) else None

    def subset(self, indices: Indices) -> Copies | None:
        """The same for some of the samples."""
        _, first, number = np.unique(self.first[indices], return_index=True, return_inverse=True)
        return Copies.of(first[number])


def first_copies(samples: Samples) -> Indices:
    """For each sample the position of the first one with the same input; its own where there is none before.

    Blank inputs, such as a black picture or a sensor that was off, carry no information and are not copies.

    >>> from tbft.data.samples import make_samples
    >>> first_copies(make_samples(np.array([[1.0, 2], [3, 4], [1, 2], [0, 0], [0, 0]]), [0] * 5))
    array([0, 1, 0, 3, 4])
    """
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(d, i) if d else i for i, d in enumerate(digests(samples))]
    return np.array(first, dtype=np.int64)


def clusters(copies: Indices) -> list[Indices]:
    """Positions of the samples of each input that is there more than once.

    >>> clusters(np.array([0, 1, 0, 3, 3]))
    [array([0, 2]), array([3, 4])]
    """
    order = np.argsort(copies, kind="stable")
    _, starts, counts = np.unique(copies[order], return_index=True, return_counts=True)
    repeated = counts > 1
    return [order[s : s + c] for s, c in zip(starts[repeated], counts[repeated], strict=True)]


def count_shared(samples: Samples, others: Samples) -> int:
    """How many of `samples` have an exact copy among `others`."""
    known = set(digests(others)) - {b""}
    return sum(d in known for d in digests(samples)) if known else 0
