"""The ways in which people prepare pictures, each a candidate for what a model needs instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tbft.data.inputs import resized
from tbft.data.samples import Samples
from tbft.data.spec import CHANNEL_ORDERS, NORMALIZATIONS, InputSpec, Preprocessing

#: Sides in px that networks are usually trained at.
SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299)


@dataclass(frozen=True, eq=False)
class Cause:
    """Something that may be wrong in how samples are prepared.

    Attributes:
        remedy: what sets it right, to be read after "with": an option, where there is one.
        code: the same in Python; empty where there is none.
        kind: ``normalization``, ``size`` or ``axes``.
        mend: the samples -> the same, prepared so.
    """

    remedy: str
    code: str
    kind: str
    mend: Callable[[Samples], Samples]


def causes(samples: Samples) -> list[Cause]:
    """The other ways in which people prepare such pictures, cheap ones first; none for other inputs.

    Smaller sizes; normalizations, ranges and orders of the channels; larger sizes; axes and polarity.
    """
    if samples.inputs.ndim != 4 or _channels(samples) not in (1, 3):
        return []
    if samples.as_taken:
        return _normalized_before(samples)
    now = samples.preprocessing
    side = min(samples.batch(slice(0, 1))[0].shape[2:])
    sizes = [(s, _size(s, wanted, now)) for wanted in (now, _named("imagenet", now)) for s in SIDES]
    smaller, larger = [c for s, c in sizes if s < side], [c for s, c in sizes if s > side]
    turned = [
        Cause("rows and columns swapped", "", "axes", _transposed),
        Cause("black and white swapped", "", "axes", _inverted),
    ]
    return [*smaller, *_normalizations(now, _channels(samples)), *larger, *turned]


def _normalizations(now: Preprocessing, channels: int) -> list[Cause]:
    """Every known normalization, in either order of the channels."""
    flipped = replace(now, mean=now.mean[::-1], std=now.std[::-1], channel_order=_other_order(now))
    starts = [now, flipped] if channels == 3 else [now]
    wanted = [w for start in starts for w in (start, *(_named(name, start) for name in NORMALIZATIONS))]
    found: list[Preprocessing] = []
    for one in wanted:
        if len(one.mean) in (1, channels) and all(one.differs_from(w) for w in (now, *found)):
            found.append(one)
    return [_cause("normalization", one, now, partial(replace, preprocessing=one)) for one in found]


def _other_order(now: Preprocessing) -> str:
    return next(order for order in CHANNEL_ORDERS if order != now.channel_order)


def _named(name: str, now: Preprocessing) -> Preprocessing:
    wanted = InputSpec(mean=name, channel_order=now.channel_order).preprocessing
    return replace(now, mean=wanted.mean, std=wanted.std)


def _size(side: int, wanted: Preprocessing, now: Preprocessing) -> Cause:
    sized = replace(wanted, resolution=side, resize=None)
    return _cause("size", sized, now, partial(_resized, wanted=sized))


def _cause(kind: str, wanted: Preprocessing, now: Preprocessing, mend: Callable[[Samples], Samples]) -> Cause:
    """A cause named by what differs between the two."""
    given: dict[str, Any] = {}
    if wanted.resolution != now.resolution:
        given["resolution"] = wanted.resolution
    if wanted.channel_order != now.channel_order:
        given["channel_order"] = wanted.channel_order
    for name in NORMALIZATIONS:
        same = not _named(name, wanted).differs_from(wanted)
        if same and (wanted.mean, wanted.std) not in ((now.mean, now.std), (now.mean[::-1], now.std[::-1])):
            given["mean"] = name
    options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in given.items())
    code = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return Cause(options, f"InputSpec({code})", kind, mend)


def _resized(samples: Samples, wanted: Preprocessing) -> Samples:
    return replace(samples, inputs=resized(np.asarray(samples.inputs), wanted), preprocessing=wanted)


def _normalized_before(samples: Samples) -> list[Cause]:
    """Inputs that somebody has normalized."""
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
