"""Small statistics of inputs, which distinguish another range or unit from drift."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tbft.data.samples import Samples

#: Maximum number of samples used.
MAX_SAMPLES = 128
#: Beyond this many standard deviations of the source, or this many times its spread, it is not drift.
MAX_DEVIATIONS, MAX_RATIO = 1000.0, 30.0
#: Below this many times the source's spread, it is not a sensor at rest.
MIN_RATIO = 1 / 3000
#: (ratio to the source's spread, what it probably means)
UNITS = (
    (255.0, "0-255 instead of 0-1"),
    (1 / 255, "0-1 instead of 0-255, or divided by 255 twice"),
    (65535.0, "0-65535 instead of 0-1"),
    (1 / 65535, "0-1 instead of 0-65535"),
    (1000.0, "thousandths of the source's unit"),
    (1 / 1000, "a unit a thousand times the source's"),
    (180 / np.pi, "degrees instead of radians"),
    (np.pi / 180, "radians instead of degrees"),
    (9.80665, "m/s² instead of g"),
    (1 / 9.80665, "g instead of m/s²"),
)
#: A unit fits if the ratio of each of at least three channels is this close to it, or if a ratio beyond
#: that of any drift is roughly equal to it.
_CLOSE, ROUGHLY, MIN_CHANNELS = 0.05, 0.25, 3


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of a model's inputs, after normalization.

    Attributes:
        pictures: whether the inputs are pictures (n, 1 or 3 channels, height, width).
        low, high: minimum and maximum over all values.
        means, deviations: mean and standard deviation of each channel (axis 1).
        shape: of one input; empty: unknown.
    """

    pictures: bool
    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        lists = {name: list(getattr(self, name)) for name in ("means", "deviations", "shape")}
        return {**asdict(self), **lists}


def input_statistics(samples: Samples) -> InputStatistics:
    """Statistics of at most 128 of the samples, evenly spaced over the set."""
    rows = np.unique(np.linspace(0, len(samples) - 1, MAX_SAMPLES).astype(np.int64))
    x = samples.batch(rows)[0].double()
    channels = x.transpose(0, 1).flatten(1) if x.ndim > 1 else x[None]
    return InputStatistics(
        pictures=x.ndim == 4 and x.shape[1] in (1, 3),
        low=float(x.min()),
        high=float(x.max()),
        means=tuple(channels.mean(1).tolist()),
        deviations=tuple(channels.std(1, correction=0).tolist()),
        shape=tuple(x.shape[1:]),
    )


def implausible_shift(
    source: InputStatistics, target: InputStatistics, where: str = "the source"
) -> str | None:
    """A message if inputs differ from the source's in range, normalization or unit; else None.

    Drift moves inputs by a few standard deviations, or multiplies their spread by a few. A difference far
    beyond that, or one that fits a unit exactly in every channel, is not drift, and nothing should be tuned
    on it.

    Args:
        where: whose the first statistics are, for the message.

    >>> source = InputStatistics(True, 0.0, 1.0, (0.5,), (0.25,))
    >>> print(implausible_shift(source, InputStatistics(True, 0.0, 255.0, (127.0,), (60.0,))))
    these inputs range from 0 to 255, those of the source from 0 to 1: 0-255 instead of 0-1; this is not drift
    """
    if len(source.means) != len(target.means):
        return None
    why = _normalization(source, target, where) if source.pictures and target.pictures else ""
    why = why or _scale(source, target)
    if not why:
        return None
    ranges = [f"from {s.low:.4g} to {s.high:.4g}" for s in (target, source)]
    return f"these inputs range {ranges[0]}, those of {where} {ranges[1]}: {why}; this is not drift"


def _normalization(source: InputStatistics, target: InputStatistics, where: str) -> str:
    """Whether pictures were normalized on one side only, in words."""
    plain = [s.low >= -0.001 and s.high <= 1.001 for s in (source, target)]
    signed = [s.low < -0.2 and max(s.deviations) > 0.3 for s in (source, target)]
    if signed[0] and plain[1]:
        return f"they are not normalized, but those of {where} were"
    if plain[0] and signed[1]:
        return f"they are normalized, but those of {where} were not"
    return ""


def _scale(source: InputStatistics, target: InputStatistics) -> str:
    """Whether inputs have another range or unit, in words, from their spread and their distance."""
    target_spread, source_spread = np.array(target.deviations), np.array(source.deviations)
    usable = (source_spread > 0) & (target_spread > 0)
    if not usable.any():
        return ""
    with np.errstate(over="ignore"):
        ratios = target_spread[usable] / source_spread[usable]
        offset = np.abs(np.array(target.means) - np.array(source.means))[usable] / source_spread[usable]
    ratio = float(np.median(ratios))
    extreme = ratio > MAX_RATIO or (ratio < 1 / MAX_RATIO and not _may_rest(source, target))
    for factor, meaning in UNITS:
        exact = len(ratios) >= MIN_CHANNELS and (abs(ratios / factor - 1) < _CLOSE).all()
        if (exact and not target.pictures) or (extreme and abs(ratio / factor - 1) < ROUGHLY):
            return meaning
    if ratio > MAX_RATIO:
        return f"they vary {ratio:,.0f} times as much, so their range or unit differs"
    if ratio < MIN_RATIO and not target.pictures:
        return f"they vary {1 / ratio:,.0f} times less, so their range or unit differs"
    if np.median(offset) > MAX_DEVIATIONS:
        away = f"{np.median(offset):,.0f} standard deviations away"
        return f"they are {away}, so their range or unit differs"
    return ""


def _may_rest(source: InputStatistics, target: InputStatistics) -> bool:
    """Whether it may be a sensor at rest, or a covered lens, whose noise spikes to the usual range."""
    return not target.pictures or target.high > 0.05 * source.high
