"""Common ways to prepare pictures, each a candidate for what a model may need instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tbft.data.layout import resized
from tbft.data.samples import Samples
from tbft.data.spec import CHANNEL_ORDERS, NORMALIZATIONS, InputSpec, Preprocessing

#: Common input sizes of networks, px.
SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299)


@dataclass(frozen=True, eq=False)
class Cause:
    """Something that may be wrong in how samples are prepared.

    Attributes:
        remedy: what corrects it, worded to follow "with": an option, if there is one.
        code: the remedy in Python; empty if there is none.
        kind: ``normalization``, ``size`` or ``axes``.
        fix: samples -> the same samples with the remedy.
    """

    remedy: str
    code: str
    kind: str
    fix: Callable[[Samples], Samples]


def causes(samples: Samples) -> list[Cause]:
    """Other common ways to prepare such pictures, cheap ones first; none for other inputs.

    Smaller sizes; normalizations, ranges and channel orders; larger sizes; axes and polarity.
    """
    if samples.inputs.ndim != 4 or _channels(samples) not in (1, 3):
        return []
    if samples.as_taken:
        return _normalized_before(samples)
    now = samples.preprocessing
    side = min(samples.batch(slice(0, 1))[0].shape[2:])
    sizes = [(s, _size(s, wanted, now)) for wanted in (now, _named("imagenet", now)) for s in SIDES]
    smaller, larger = [c for s, c in sizes if s < side], [c for s, c in sizes if s > side]
    swapped = [
        Cause("rows and columns swapped", "", "axes", _transposed),
        Cause("black and white swapped", "", "axes", _inverted),
    ]
    return [*smaller, *_normalizations(now, _channels(samples)), *larger, *swapped]


def _normalizations(now: Preprocessing, channels: int) -> list[Cause]:
    """Every known normalization, in either channel order."""
    flipped = replace(now, mean=now.mean[::-1], std=now.std[::-1], channel_order=_other_order(now))
    starts = [now, flipped] if channels == 3 else [now]
    candidates = [p for start in starts for p in (start, *(_named(name, start) for name in NORMALIZATIONS))]
    distinct: list[Preprocessing] = []
    for candidate in candidates:
        fits = len(candidate.mean) in (1, channels)
        if fits and all(candidate.differs_from(other) for other in (now, *distinct)):
            distinct.append(candidate)
    return [_cause("normalization", p, now, partial(replace, preprocessing=p)) for p in distinct]


def _other_order(now: Preprocessing) -> str:
    return next(order for order in CHANNEL_ORDERS if order != now.channel_order)


def _named(name: str, now: Preprocessing) -> Preprocessing:
    wanted = InputSpec(mean=name, channel_order=now.channel_order).preprocessing
    return replace(now, mean=wanted.mean, std=wanted.std)


def _size(side: int, wanted: Preprocessing, now: Preprocessing) -> Cause:
    sized = replace(wanted, resolution=side, resize=None)
    return _cause("size", sized, now, partial(_resized, wanted=sized))


def _cause(kind: str, wanted: Preprocessing, now: Preprocessing, fix: Callable[[Samples], Samples]) -> Cause:
    """A cause named by the differences between two preparations."""
    different: dict[str, Any] = {}
    if wanted.resolution != now.resolution:
        different["resolution"] = wanted.resolution
    if wanted.channel_order != now.channel_order:
        different["channel_order"] = wanted.channel_order
    for name in NORMALIZATIONS:
        same = not _named(name, wanted).differs_from(wanted)
        if same and (wanted.mean, wanted.std) not in ((now.mean, now.std), (now.mean[::-1], now.std[::-1])):
            different["mean"] = name
    options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in different.items())
    code = ", ".join(f"{key}={value!r}" for key, value in different.items())
    return Cause(options, f"InputSpec({code})", kind, fix)


def _resized(samples: Samples, wanted: Preprocessing) -> Samples:
    return replace(samples, inputs=resized(np.asarray(samples.inputs), wanted), preprocessing=wanted)


def _normalized_before(samples: Samples) -> list[Cause]:
    """Causes for inputs that may already be normalized."""
    return [
        Cause(
            f"inputs that are not normalized by {name}",
            "",
            "normalization",
            partial(_unnormalized, name=name),
        )
        for name, (mean, _) in NORMALIZATIONS.items()
        if name != "none" and len(mean) in (1, _channels(samples))
    ]


def _unnormalized(samples: Samples, name: str) -> Samples:
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in NORMALIZATIONS[name])
    return replace(samples, inputs=samples.inputs * std + mean)


def _transposed(samples: Samples) -> Samples:
    rows = 1 if samples.are_pictures else 2
    return replace(samples, inputs=np.asarray(samples.inputs).swapaxes(rows, rows + 1))


def _inverted(samples: Samples) -> Samples:
    return replace(samples, inputs=(255 if samples.are_pictures else 1) - np.asarray(samples.inputs))


def _channels(samples: Samples) -> int:
    return int(samples.inputs.shape[3 if samples.are_pictures else 1])
