"""Notes on inputs that may be in another form than the source's, where it may be real drift as well."""

from __future__ import annotations

import numpy as np

from tbft.data.input_statistics import MAX_RATIO, MIN_CHANNELS, ROUGHLY, UNITS, InputStatistics

#: Ratio of spreads from which most channels (this share), and from which a single one, may be in another
#: unit: people and devices in motion data differ by 1/6 to 3 in one channel, and by less in most.
NOTED_RATIO, _MOST, _NOTED_ALONE = 4.0, 0.75, MAX_RATIO


def input_notes(
    source: InputStatistics, target: InputStatistics, where: str = "the source"
) -> tuple[str, ...]:
    """What is noted of inputs other than pictures: scale, standardization, and channels that do not vary.

    Args:
        where: whose the first statistics are, for the notes.
    """
    if target.pictures or len(source.means) != len(target.means):
        return ()
    scale = standardized_alone(source, target, where) or possible_unit(source, target, where)
    return tuple(note for note in (scale, dead_channels(source, target, where)) if note is not None)


def possible_unit(source: InputStatistics, target: InputStatistics, where: str = "the source") -> str | None:
    """A note if inputs other than pictures vary by a multiple, as if in another unit; else None.

    It may be real drift, such as a recording that is not as loud. In another unit, means are the same
    multiple; where they stayed, as gravity does in a sensor at rest, nothing is said.

    >>> source = InputStatistics(False, -3.0, 3.0, (0.0,) * 3, (1.0,) * 3)
    >>> possible_unit(source, InputStatistics(False, -30.0, 30.0, (0.0,) * 3, (12.0,) * 3))[:55]
    'the inputs vary 12 times as much as those of the source'
    """
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


def standardized_alone(
    source: InputStatistics, target: InputStatistics, where: str = "the source"
) -> str | None:
    """A note if all channels are standardized on one side, and most are not on the other; else None.

    >>> raw = InputStatistics(False, -9.0, 9.0, (9.8, 0.2, 3.0), (0.1, 5.0, 0.2))
    >>> standardized_alone(raw, InputStatistics(False, -3.0, 3.0, (0.1, -0.2, 0.0), (0.9, 1.1, 1.3)))[:38]
    'the inputs seem to be standardized (me'
    """
    count = len(target.means)
    if count < MIN_CHANNELS:
        return None
    what = f"standardized (means near 0 and standard deviations near 1 in all of {count} channels)"
    if _is_standardized(target, 2.5, 1.0) and _is_raw(source):
        return f"the inputs seem to be {what}, and those of {where} are not: prepare both alike, if so"
    if _is_standardized(source, 1.5, 0.35) and _is_raw(target):
        return f"those of {where} seem to be {what}, and the inputs are not: prepare both alike, if so"
    return None


def _is_standardized(statistics: InputStatistics, factor: float, offset: float) -> bool:
    """Whether deviations are 1 up to a factor, and means 0 up to an offset, as people differ."""
    spread, means = np.array(statistics.deviations), np.abs(statistics.means)
    return bool(((spread > 1 / factor) & (spread < factor) & (means < offset)).all())


def _is_raw(statistics: InputStatistics) -> bool:
    """Whether at least half of the channels cannot have been standardized."""
    spread, means = np.array(statistics.deviations), np.abs(statistics.means)
    return bool(((spread < 0.5) | (spread > 2) | (means > 1)).mean() >= 0.5)


def dead_channels(source: InputStatistics, target: InputStatistics, where: str = "the source") -> str | None:
    """A note on channels of windows that are constant, but not in the source; else None.

    Columns of a table may be constant for one user, and pictures may be black.

    >>> source = InputStatistics(False, -3.0, 3.0, (0.0,) * 2, (1.0,) * 2, (2, 50))
    >>> print(dead_channels(source, InputStatistics(False, -3.0, 3.0, (0.0, 1.0), (0.0, 1.0), (2, 50))))
    channel 0 is constant (0), but not in those of the source: is a sensor not connected?
    """
    if len(target.shape) < 2:
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
    unit = next((f" ({meaning}?)" for one, meaning in UNITS if abs(ratio / one - 1) < ROUGHLY), "")
    return (
        f"the inputs vary {times} those of {where} (standard deviation {own:.3g} instead of {theirs:.3g}, "
        f"{which}), as if they were in another unit{unit}: convert them if they are; else it counts as drift"
    )
