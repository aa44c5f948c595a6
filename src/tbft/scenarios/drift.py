"""The registry of drifts: what can be put on top of any set of samples, by name.

A drift is written ``name`` or ``name:argument``: ``gaussian_noise:5``, ``labels:noise:0.2``. Several at
once are joined by ``+`` and put on in that order: ``gaussian_noise:3+labels:reverse``. To add one, write
a module with a function and one :func:`register` line, and import it in ``data/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.cifar10c import SEVERITIES
from tbft.data.lazy import as_array, as_lazy
from tbft.data.samples import Samples
from tbft.errors import DataError, unknown

Pictures = npt.NDArray[np.uint8]
#: (pictures (n, h, w, c), severity 1..5, one generator a picture) -> pictures of the same shape.
Corruption = Callable[[Pictures, int, Iterable[np.random.Generator]], Pictures]


@dataclass(frozen=True)
class Drift:
    """A registered drift.

    Attributes:
        name: may hold colons itself, as ``labels:noise`` does.
        level: the level it belongs to: input, feature, output, or none.
        apply: (samples, parsed argument, seed) -> samples.
        parse: the text after the name (empty if there is none) -> the argument; raises ValueError
            that says what it has to be.
        usage: how the drift is written, with the argument's kind in capitals.
        examples: valid, complete ways to write it; sheets, lists and tests use them.
        summary: one line on what it does.
        source: where the definition and its constants come from.
    """

    name: str
    level: str
    apply: Callable[[Samples, Any, int], Samples]
    parse: Callable[[str], Any]
    usage: str
    examples: tuple[str, ...]
    summary: str
    source: str


@dataclass(frozen=True)
class Applied:
    """One drift of a mixture with its argument."""

    drift: Drift
    argument: Any


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


def find_drifts(spec: str) -> tuple[Applied, ...]:
    """The drifts that ``name:argument`` or a mixture ``a+b`` names, in the order they are put on.

    Raises:
        DataError: an unknown name, severity or argument.
    """
    return tuple(_find_one(part.strip()) for part in spec.split("+"))


def _find_one(spec: str) -> Applied:
    words = spec.split(":")
    # The longest name wins: `labels:noise:0.2` is `labels:noise` with the argument 0.2.
    for end in range(len(words), 0, -1):
        name, argument = ":".join(words[:end]), ":".join(words[end:])
        if name in _DRIFTS:
            return Applied(_DRIFTS[name], _parsed(_DRIFTS[name], argument, spec))
    near = spec if words[0] in {name.partition(":")[0] for name in _DRIFTS} else words[0]
    raise DataError(unknown("drift", near, _DRIFTS))


def _parsed(drift: Drift, argument: str, spec: str) -> Any:
    try:
        return drift.parse(argument)
    except ValueError as error:
        example = drift.examples[len(drift.examples) // 2]
        raise DataError(f"drift {spec!r}: {error}; write for example {example}") from None


def apply_drift(samples: Samples, spec: str, seed: int = 0) -> Samples:
    """Put a drift, or a mixture of drifts, on top of samples.

    Args:
        spec: ``name:argument`` or several joined by ``+``, see :func:`drifts`.
        seed: of whatever is random in it. Each sample draws from a generator of its own, seeded
            by `seed` and its id, so the result does not depend on order, subset or batch size.
    """
    drifted = samples
    for position, one in enumerate(find_drifts(spec)):
        drifted = one.drift.apply(drifted, one.argument, _seed_at(seed, position))
    return replace(drifted, name=f"{samples.name} + {spec}")


def kept_by(samples: Samples, spec: str, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which samples a drift keeps; a change of the class shares leaves some out.

    Raises:
        DataError: it would leave none.
    """
    drifted = replace(samples, inputs=np.zeros((len(samples), 1), np.float32))
    for position, one in enumerate(find_drifts(spec)):
        if one.drift.level == "output":  # the others change inputs, which are not looked at here
            drifted = one.drift.apply(drifted, one.argument, _seed_at(seed, position))
    return np.isin(samples.ids, drifted.ids)


def _seed_at(seed: int, position: int) -> int:
    """The seed of one part of a mixture; two noises must not draw the same numbers."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0]) if position else seed


def no_argument(text: str) -> None:
    """Parse the argument of a drift that takes none."""
    if text:
        raise ValueError(f"nothing may follow the name, not {text!r}")


def severity(text: str) -> int:
    """Parse a severity.

    >>> severity("3")
    3
    """
    if text not in {str(s) for s in SEVERITIES}:
        given = repr(text) if text else "nothing"
        raise ValueError(f"the severity has to be a whole number from 1 to 5, not {given}")
    return int(text)


def number(what: str, low: float, high: float, default: float | None = None) -> Callable[[str], float]:
    """A parser of numbers above `low` and up to `high`.

    >>> number("the share", 0, 1)("0.2")
    0.2
    """

    def parse(text: str) -> float:
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = low
        if not low < value <= high:
            given = repr(text) if text else "nothing"
            raise ValueError(f"{what} has to be a number above {low:g} and up to {high:g}, not {given}")
        return value

    return parse


def generators(samples: Samples, seed: int) -> Iterable[np.random.Generator]:
    """A generator for each sample, which depends on `seed` and the sample's id alone."""
    return _generators(samples.ids, seed)


def _generators(ids: npt.NDArray[np.int64], seed: int) -> Iterable[np.random.Generator]:
    return (np.random.default_rng([seed, int(i)]) for i in ids)


def register_corruption(name: str, summary: str, source: str) -> Callable[[Corruption], Corruption]:
    """Register a function on pictures as an input-level drift with severities 1 to 5."""

    def decorate(corrupt: Corruption) -> Corruption:
        def apply(samples: Samples, severity: int, seed: int) -> Samples:
            if not samples.are_pictures:
                kind = f"{samples.inputs.dtype} inputs of shape {samples.inputs.shape}"
                raise DataError(f"{samples.name}: {name!r} works on uint8 pictures, not on {kind}")
            lazy = as_lazy(samples.inputs)
            if lazy is None:
                return replace(samples, inputs=corrupt(samples.inputs, severity, generators(samples, seed)))

            def some(rows: Pictures, at: npt.NDArray[np.int64]) -> Pictures:
                return corrupt(rows, severity, _generators(samples.ids[at], seed))

            return replace(samples, inputs=as_array(lazy.mapped(some)))

        examples = tuple(f"{name}:{s}" for s in SEVERITIES)
        register(Drift(name, "input", apply, severity, f"{name}:1..5", examples, summary, source))
        return corrupt

    return decorate


register(
    Drift(
        name="clean",
        level="none",
        apply=lambda samples, argument, seed: samples,
        parse=no_argument,
        usage="clean",
        examples=("clean",),
        summary="nothing changes; for schedules and as a control",
        source="",
    )
)
