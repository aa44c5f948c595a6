"""What inputs look like as numbers: small statistics that tell another range or unit from drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tbft.data.samples import Samples

#: Samples that are looked at.
MAX_SAMPLES = 512
#: Beyond so many standard deviations of the source, or so many times its spread, nothing drifts.
MAX_DEVIATIONS, MAX_RATIO = 1000.0, 30.0
#: (times the source's spread, what that is likely to mean)
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
#: A unit fits if the spread of each of at least three channels is this close to it, or if a ratio that no
#: drift has is roughly it.
_CLOSE, _ROUGHLY, _MIN_CHANNELS = 0.05, 0.25, 3


@dataclass(frozen=True)
class InputStatistics:
    """Of the values that a model is given, normalization included.

    Attributes:
        pictures: whether they are pictures (n, 1 or 3 channels, height, width).
        low, high: extremes over all values.
        means, deviations: of each channel (axis 1).
    """

    pictures: bool
    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "means": list(self.means), "deviations": list(self.deviations)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> InputStatistics:
        """The inverse of :meth:`to_json`."""
        return cls(**{**values, "means": tuple(values["means"]), "deviations": tuple(values["deviations"])})


def input_statistics(samples: Samples) -> InputStatistics:
    """Of at most 512 of the samples, evenly spread over the set."""
    at = np.unique(np.linspace(0, len(samples) - 1, MAX_SAMPLES).astype(np.int64))
    x = samples.batch(at)[0].double()
    rows = x.transpose(0, 1).flatten(1) if x.ndim > 1 else x[None]
    return InputStatistics(
        pictures=x.ndim == 4 and x.shape[1] in (1, 3),
        low=float(x.min()),
        high=float(x.max()),
        means=tuple(rows.mean(1).tolist()),
        deviations=tuple(rows.std(1, correction=0).tolist()),
    )


def implausible_shift(source: InputStatistics, target: InputStatistics) -> str | None:
    """What to say where inputs differ from the source's by their range, normalization or unit; else None.

    A drift moves inputs by some of their standard deviations, or makes them vary some times as much. What
    lies far beyond that, or fits a unit exactly in every channel, is no drift: nothing should be tuned on it.

    >>> source = InputStatistics(True, 0.0, 1.0, (0.5,), (0.25,))
    >>> print(implausible_shift(source, InputStatistics(True, 0.0, 255.0, (127.0,), (60.0,))))
    these inputs run from 0 to 255, those of the source from 0 to 1: 0-255 instead of 0-1; this is no drift
    """
    if len(source.means) != len(target.means):
        return None
    why = _normalization(source, target) if source.pictures and target.pictures else ""
    why = why or _scale(source, target)
    if not why:
        return None
    ranges = [f"from {s.low:.4g} to {s.high:.4g}" for s in (target, source)]
    return f"these inputs run {ranges[0]}, those of the source {ranges[1]}: {why}; this is no drift"


def _normalization(source: InputStatistics, target: InputStatistics) -> str:
    """Pictures that one side normalized and the other did not."""
    plain = [s.low >= -0.001 and s.high <= 1.001 for s in (source, target)]
    signed = [s.low < -0.2 and max(s.deviations) > 0.3 for s in (source, target)]
    if signed[0] and plain[1]:
        return "they are not normalized, and the source's were (--mean, --std)"
    if plain[0] and signed[1]:
        return "they are normalized, and the source's were not"
    return ""


def _scale(source: InputStatistics, target: InputStatistics) -> str:
    """Another range or unit, told by how much the inputs vary and how far they lie from the source's."""
    mine, theirs = np.array(target.deviations), np.array(source.deviations)
    usable = (theirs > 0) & (mine > 0)
    if not usable.any():
        return ""
    ratios = mine[usable] / theirs[usable]
    ratio = float(np.median(ratios))
    extreme = ratio > MAX_RATIO or (ratio < 1 / MAX_RATIO and not _is_dark(source, target))
    for factor, meaning in UNITS:
        exact = len(ratios) >= _MIN_CHANNELS and (abs(ratios / factor - 1) < _CLOSE).all()
        if (exact and not target.pictures) or (extreme and abs(ratio / factor - 1) < _ROUGHLY):
            return meaning
    offset = np.abs(np.array(target.means) - np.array(source.means))[usable] / theirs[usable]
    if ratio > MAX_RATIO:
        return f"they vary {ratio:,.0f} times as much, so they are of another range or unit"
    if np.median(offset) > MAX_DEVIATIONS:
        away = f"{np.median(offset):,.0f} standard deviations away"
        return f"they lie {away}, so they are of another range or unit"
    return ""


def _is_dark(source: InputStatistics, target: InputStatistics) -> bool:
    """Pictures that show next to nothing, as of a covered lens; noise has spikes up to the usual range."""
    return target.pictures and target.high > 0.05 * source.high
