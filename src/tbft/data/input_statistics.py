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
#: Ratio of spreads from which most channels (this share), and from which a single one, may be in another
#: unit: people and devices in motion data differ by 1/6 to 3 in one channel, and by less in most.
NOTED_RATIO, _MOST, _NOTED_ALONE = 4.0, 0.75, MAX_RATIO
#: A unit fits if the ratio of each of at least three channels is this close to it, or if a ratio beyond
#: that of any drift is roughly equal to it.
_CLOSE, _ROUGHLY, _MIN_CHANNELS = 0.05, 0.25, 3


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
        exact = len(ratios) >= _MIN_CHANNELS and (abs(ratios / factor - 1) < _CLOSE).all()
        if (exact and not target.pictures) or (extreme and abs(ratio / factor - 1) < _ROUGHLY):
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


def possible_unit(source: InputStatistics, target: InputStatistics, where: str = "the source") -> str | None:
    """A note if inputs other than pictures vary by a multiple, as if in another unit; else None.

    It may be real drift, such as a recording that is not as loud. In another unit, means are the same
    multiple; where they stayed, as gravity does in a sensor at rest, nothing is said.

    >>> source = InputStatistics(False, -3.0, 3.0, (0.0,) * 3, (1.0,) * 3)
    >>> possible_unit(source, InputStatistics(False, -30.0, 30.0, (0.0,) * 3, (12.0,) * 3))[:55]
    'the inputs vary 12 times as much as those of the source'
    """
    if target.pictures or len(source.means) != len(target.means):
        return None
    means, spread = np.array(source.means), np.array(source.deviations)
    usable = (spread > 0) & (np.array(target.deviations) > 0)
    if not usable.any():
        return None
    with np.errstate(all="ignore"):
        ratios = np.where(usable, np.array(target.deviations) / spread, np.nan)
        stays = np.abs(target.means - ratios * means) > np.abs(target.means - means)
    known = np.abs(means) > spread / 2  # a mean near zero is there in any unit
    ratio = float(np.nanmedian(ratios))
    off = ratios >= NOTED_RATIO if ratio > 1 else ratios <= 1 / NOTED_RATIO
    if off.sum() >= _MOST * usable.sum() and stays[off & known].sum() <= (off & known).sum() / 2:
        at = int(np.nanargmin(np.abs(np.log(ratios / ratio))))
        return _in_another_unit(source, target, at, f"median of {usable.sum()} channels", where)
    alone = np.flatnonzero(usable & (ratios >= _NOTED_ALONE) & ~(stays & known))
    if not len(alone):
        return None
    more = f" and {len(alone) - 1} others" if len(alone) > 1 else ""
    return _in_another_unit(source, target, int(alone[0]), f"channel {alone[0]}{more}", where)


def dead_channels(source: InputStatistics, target: InputStatistics, where: str = "the source") -> str | None:
    """A note on channels of windows that are constant, but not in the source; else None.

    Columns of a table may be constant for one user, and pictures may be black.

    >>> source = InputStatistics(False, -3.0, 3.0, (0.0,) * 2, (1.0,) * 2, (2, 50))
    >>> print(dead_channels(source, InputStatistics(False, -3.0, 3.0, (0.0, 1.0), (0.0, 1.0), (2, 50))))
    channel 0 is constant (0), but not in those of the source: is a sensor not connected?
    """
    if target.pictures or len(target.shape) < 2 or len(source.means) != len(target.means):
        return None
    source_spread = np.array(source.deviations)  # 0.1 has a spread by rounding
    dead = np.flatnonzero((np.array(target.deviations) <= 1e-9 * source_spread) & (source_spread > 0))
    if not len(dead):
        return None
    what = "channel" if len(dead) == 1 else "channels"
    verb = "is" if len(dead) == 1 else "are"
    values = ", ".join(f"{target.means[i]:.3g}" for i in dead)
    listed = ", ".join(map(str, dead))
    return (
        f"{what} {listed} {verb} constant ({values}), but not in those of {where}: is a sensor not connected?"
    )


def _in_another_unit(
    source: InputStatistics, target: InputStatistics, channel: int, which: str, where: str
) -> str:
    own, theirs = target.deviations[channel], source.deviations[channel]
    ratio, factor = own / theirs, max(own / theirs, theirs / own)
    times = f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"
    times += " as much as" if ratio > 1 else " less than"
    unit = next((f" ({meaning}?)" for one, meaning in UNITS if abs(ratio / one - 1) < _ROUGHLY), "")
    return (
        f"the inputs vary {times} those of {where} (standard deviation {own:.3g} instead of {theirs:.3g}, "
        f"{which}), as if they were in another unit{unit}: convert them if they are; else it counts as drift"
    )
