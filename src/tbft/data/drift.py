"""The registry of drifts: what can be put on top of any set of samples, by name.

A drift is written ``name`` or ``name:argument``: ``gaussian_noise:5``, ``labels:reverse``. To add one,
write a module with a function and one :func:`register` line, and import it in ``data/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tbft.data.samples import Samples
from tbft.errors import DataError, unknown

Pictures = npt.NDArray[np.uint8]
#: (pictures (n, h, w, c), severity 1..5, one generator a picture) -> pictures of the same shape.
Corruption = Callable[[Pictures, int, Iterable[np.random.Generator]], Pictures]
#: (labels (n,), number of classes, seed) -> labels (n,).
Relabelling = Callable[[npt.NDArray[np.int64], int, int], npt.NDArray[np.int64]]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Drift:
    """A registered drift."""

    name: str
    level: str  # the level it belongs to: input, feature or output
    apply: Callable[[Samples, str, int], Samples]  # (samples, argument, seed) -> samples
    arguments: tuple[str, ...]  # allowed after the colon; empty if it takes none
    summary: str
    source: str  # where the definition and its constants come from


_DRIFTS: dict[str, Drift] = {}


def register(drift: Drift) -> Drift:
    """Make a drift known under its name."""
    if drift.name in _DRIFTS:
        raise ValueError(f"a drift named {drift.name!r} is registered already")
    _DRIFTS[drift.name] = drift
    return drift


def drifts() -> tuple[Drift, ...]:
    """Every registered drift, in the order of registration."""
    return tuple(_DRIFTS.values())


def find_drift(spec: str) -> tuple[Drift, str]:
    """The drift and the argument that ``name:argument`` names.

    Raises:
        DataError: an unknown name, severity or argument.
    """
    name, _, argument = spec.partition(":")
    if name not in _DRIFTS:
        raise DataError(unknown("drift", name, _DRIFTS))
    drift = _DRIFTS[name]
    if argument not in (drift.arguments or ("",)):
        allowed = ", ".join(f"{name}:{a}" for a in drift.arguments) or name
        given = f"{argument!r} after {name!r}" if argument else f"nothing after {name!r}"
        raise DataError(f"drift {spec!r}: {given} is not one of its arguments; write one of {allowed}")
    return drift, argument


def apply_drift(samples: Samples, spec: str, seed: int = 0) -> Samples:
    """Put a drift on top of samples.

    Args:
        spec: ``name:argument``, see :func:`drifts`.
        seed: of whatever is random in it. Each sample draws from a generator of its own, seeded
            by `seed` and its id, so the result does not depend on order, subset or batch size.
    """
    drift, argument = find_drift(spec)
    return replace(drift.apply(samples, argument, seed), name=f"{samples.name} + {spec}")


def register_corruption(name: str, summary: str, source: str) -> Callable[[Corruption], Corruption]:
    """Register a function on pictures as an input-level drift with severities 1 to 5."""

    def decorate(corrupt: Corruption) -> Corruption:
        def apply(samples: Samples, argument: str, seed: int) -> Samples:
            if not samples.are_pictures:
                kind = f"{samples.inputs.dtype} inputs of shape {samples.inputs.shape}"
                raise DataError(f"{samples.name}: {name!r} works on uint8 pictures, not on {kind}")
            generators = (np.random.default_rng([seed, int(i)]) for i in samples.ids)
            return replace(samples, inputs=corrupt(samples.inputs, int(argument), generators))

        register(Drift(name, "input", apply, tuple(str(s) for s in SEVERITIES), summary, source))
        return corrupt

    return decorate
