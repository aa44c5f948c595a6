"""Drift over time: a schedule of drifts, and the stream of batches that a device sees under it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tbft.data.samples import Samples
from tbft.errors import DataError
from tbft.scenarios.drift import apply_drift, find_drifts, kept_by

_RANGE = re.compile(r"(?<![\w.])(\d+)\.\.(\d+)(?![\w.])")


def parse_schedule(text: str) -> tuple[str, ...]:
    """The drifts of a schedule in chronological order: ``clean,fog:1..5,fog:4..1,clean``.

    Steps are separated by commas; a range such as ``1..5`` or ``4..1`` stands for one step per number.

    Raises:
        DataError: an unknown drift, or two ranges in one step.

    >>> parse_schedule("clean,fog:1..3,clean")
    ('clean', 'fog:1', 'fog:2', 'fog:3', 'clean')
    """
    steps = tuple(step for part in text.split(",") for step in _expanded(part.strip()))
    for step in steps:
        find_drifts(step)
    return steps


def _expanded(part: str) -> list[str]:
    ranges = _RANGE.findall(part)
    if not ranges:
        return [part]
    if len(ranges) > 1:
        raise DataError(f"schedule step {part!r} has two ranges; write its steps one by one")
    first, last = (int(end) for end in ranges[0])
    direction = 1 if last >= first else -1
    return [_RANGE.sub(str(value), part) for value in range(first, last + direction, direction)]


@dataclass(frozen=True, eq=False)
class Moment:
    """One batch of a stream.

    Attributes:
        step: position in the schedule, from 0.
        drift: the drift of this step.
        samples: the drifted batch.
    """

    step: int
    drift: str
    samples: Samples


class DriftStream:
    """Batches of samples under a schedule of drifts; every iteration gives the same batches.

    Samples come in a seeded order, reshuffled whenever all have been used. Random drifts depend on the seed
    and the sample, so that a permutation of labels stays the same over the stream. Samples that a drift
    leaves out, as a change of the class prior does, are skipped: every batch is full.

    Args:
        samples: samples without drift.
        schedule: see :func:`parse_schedule`, or its steps.
        batches: number of batches in each step.
        batch_size: number of samples in each batch.

    Raises:
        DataError: no samples, no batches, an unknown drift, or one that leaves no sample.

    Examples:
        >>> from tbft.data import make_samples
        >>> some = make_samples(np.zeros((5, 8, 8), np.uint8), [0, 1, 0, 1, 1])
        >>> [(m.step, m.drift, len(m.samples)) for m in DriftStream(some, "clean,labels:reverse", 1, 4)]
        [(0, 'clean', 4), (1, 'labels:reverse', 4)]
    """

    def __init__(
        self,
        samples: Samples,
        schedule: str | Sequence[str],
        batches: int = 10,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if batches < 1 or batch_size < 1:
            raise DataError(f"a stream needs at least one batch of one sample, not {batches} of {batch_size}")
        if len(samples) == 0:
            raise DataError(f"{samples.name}: a stream needs samples, and there are none")
        self.samples = samples
        self.steps = parse_schedule(schedule if isinstance(schedule, str) else ",".join(schedule))
        self._kept = {drift: kept_by(samples, drift, seed) for drift in set(self.steps)}
        self.batches = batches
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.steps) * self.batches

    def __iter__(self) -> Iterator[Moment]:
        order = self._order()
        for step, drift in enumerate(self.steps):
            for _ in range(self.batches):
                kept = (i for i in order if self._kept[drift][i])
                batch = self.samples.subset(list(islice(kept, self.batch_size)))
                yield Moment(step, drift, apply_drift(batch, drift, self.seed))

    def _order(self) -> Iterator[int]:
        generator = np.random.default_rng(self.seed)
        while True:
            yield from generator.permutation(len(self.samples)).tolist()
