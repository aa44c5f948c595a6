"""What all corruptions share: choice of constants, chunks, gray pictures, rounding and random draws.

A corruption is written as a function of some pictures, the constants of one severity, and the generators of
these pictures; :func:`corruption` registers it as a drift.

All random numbers of a picture are drawn from its own generator, at once, in the order of the official
scripts and with methods that ``RandomState`` shares. So a picture's result does not depend on its neighbors,
and passing the same ``RandomState`` for every picture (``itertools.repeat``) draws what the scripts draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tbft.errors import DataError, needs
from tbft.scenarios.drift import Pictures, register_corruption

Rng = np.random.Generator | np.random.RandomState
Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

SOURCE = "CIFAR-10-C up to 64 px, ImageNet-C above (Hendrycks & Dietterich 2019)"
#: Pictures whose shorter side is at most this long are corrupted with the constants of CIFAR-10-C.
SMALL = 64
#: Pixels processed at a time, which bounds the memory: 256 pictures of 32 x 32, or one of 512 x 512.
PIXELS_AT_ONCE = 1 << 18
#: Weights of red, green and blue in the luminance (ITU-R 601), as in OpenCV and Pillow.
LUMINANCE = (0.299, 0.587, 0.114)

Constants = TypeVar("Constants")
#: (some pictures, constants of the severity, one generator per picture) -> the corrupted pictures.
Chunk = Callable[[Pictures, Constants, Iterator[Rng]], Pictures]


class Corruption(Protocol):
    """A corruption as it is called: any number of pictures, at a severity from 1 to 5."""

    def __call__(self, pictures: Pictures, severity: int, generators: Iterable[Rng]) -> Pictures: ...


def corruption(
    name: str,
    summary: str,
    small: Sequence[Constants],
    large: Sequence[Constants],
    color: bool = False,
) -> Callable[[Chunk[Constants]], Corruption]:
    """Register a function of a chunk of pictures as a corruption.

    Args:
        small: the constants of CIFAR-10-C, one entry per severity.
        large: the constants of ImageNet-C, for pictures with a shorter side above :data:`SMALL`.
        color: the function needs three channels; gray pictures are converted to color and back, by their
            luminance.
    """

    def decorate(chunk: Chunk[Constants]) -> Corruption:
        def corrupt(pictures: Pictures, severity: int, generators: Iterable[Rng]) -> Pictures:
            check_channels(pictures, (1, 3) if color else None, name)
            constants = (small if is_small(pictures.shape[1:3]) else large)[severity - 1]
            as_color = color and pictures.shape[-1] == 1
            rng_of = iter(generators)
            out = np.empty_like(pictures)
            for part in _chunks(pictures.shape):
                some = pictures[part]
                rngs = _one_each(rng_of, len(some))
                if as_color:
                    out[part] = to_gray(chunk(np.repeat(some, 3, axis=-1), constants, rngs))
                else:
                    out[part] = chunk(some, constants, rngs)
            return out

        corrupt.__name__ = corrupt.__qualname__ = name
        corrupt.__doc__ = chunk.__doc__
        register_corruption(name, summary, SOURCE)(corrupt)
        return corrupt

    return decorate


def is_small(size: Sequence[int]) -> bool:
    """Whether pictures of this height and width get the constants of CIFAR-10-C."""
    return min(size) <= SMALL


def check_channels(pictures: Pictures, allowed: Sequence[int] | None, name: str) -> None:
    """Raise DataError if the pictures do not have one of these numbers of channels."""
    if allowed is not None and pictures.shape[-1] not in allowed:
        raise DataError(
            f"{name!r} works on gray or RGB pictures (1 or 3 channels), not on {pictures.shape[-1]} channels"
        )


def _one_each(generators: Iterator[Rng], pictures: int) -> Iterator[Rng]:
    # Without this check, arrays drawn for too few pictures could be broadcast to all of them.
    for _ in range(pictures):
        try:
            yield next(generators)
        except StopIteration:
            raise ValueError("there are fewer generators than pictures") from None


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, PIXELS_AT_ONCE // (shape[1] * shape[2]))
    return (slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step))


def to_unit(pictures: Pictures) -> npt.NDArray[np.float32]:
    """Pictures as ``float32`` in [0, 1]."""
    return pictures.astype(np.float32) / np.float32(255)


def to_unit_doubles(pictures: Pictures) -> Doubles:
    """Pictures as ``float64`` in [0, 1], for corruptions in which the last bit decides the truncation."""
    return pictures / 255.0


def to_uint8(unit: Floats) -> Pictures:
    """Clipped to [0, 1], times 255, truncated: the rounding of the official scripts."""
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)


def to_gray(color: Pictures) -> Pictures:
    """The luminance of RGB pictures (n, h, w, 3) as (n, h, w, 1)."""
    luminance: Doubles = color @ np.array(LUMINANCE)
    return np.rint(luminance)[..., None].astype(np.uint8)


def standard_normal(rngs: Iterable[Rng], shape: tuple[int, ...]) -> Floats:
    """Normal numbers for each picture, (n, *shape); ``float32`` unless the generator is a legacy one."""
    return np.stack(
        [
            g.standard_normal(shape, dtype=np.float32)
            if isinstance(g, np.random.Generator)
            else g.standard_normal(shape)
            for g in rngs
        ]
    )


def integers(rng: Rng, low: int, high: int, shape: tuple[int, ...] = ()) -> npt.NDArray[np.int64]:
    """Whole numbers from `low` to below `high`, by the method that the generator has for it."""
    if isinstance(rng, np.random.Generator):
        return np.asarray(rng.integers(low, high, shape), dtype=np.int64)
    # None for a single draw, as in the scripts, so that it consumes the stream in the same way.
    return np.asarray(rng.randint(low, high, shape or None), dtype=np.int64)


def scipy_ndimage() -> Any:
    """The module ``scipy.ndimage``, imported when a corruption needs it.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with needs("scipy", "corruptions"):
        return import_module("scipy.ndimage")
