"""The registry of drifts, which can be applied to any samples by name.

A drift is written ``name`` or ``name:argument``: ``gaussian_noise:5``, ``labels:noise:0.2``. A mixture joins
several with ``+``, applied in that order: ``gaussian_noise:3+labels:reverse``. To add a drift, write a module
with a function and one :func:`register` line, and import it in ``scenarios/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.cifar10c import SEVERITIES
from tbft.data.copies import with_hashes
from tbft.data.lazy import as_array, as_lazy
from tbft.data.samples import Samples
from tbft.errors import DataError, unknown

Pictures = npt.NDArray[np.uint8]
#: (pictures (n, h, w, c), severity 1..5, one generator per picture) -> pictures of the same shape.
Corruption = Callable[[Pictures, int, Iterable[np.random.Generator]], Pictures]


@dataclass(frozen=True)
class Drift:
    """A registered drift.

    Attributes:
        name: may itself contain colons, as in ``labels:noise``.
        level: its level of drift: ``input``, ``feature``, ``output`` or ``none``.
        apply: (samples, parsed argument, seed) -> samples.
        parse: parses the text after the name (empty if there is none); raises a ValueError that says what
            the argument must be.
        usage: how the drift is written, with a placeholder for the argument in capitals.
        examples: valid, complete spellings; sheets, lists and tests use them.
        summary: what it does, in one line.
        source: where its definition and constants come from.
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
    """Register a drift under its name."""
    if drift.name in _DRIFTS:
        raise ValueError(f"a drift named {drift.name!r} is already registered")
    _DRIFTS[drift.name] = drift
    return drift


def drifts() -> tuple[Drift, ...]:
    """All registered drifts, in the order of registration."""
    return tuple(_DRIFTS.values())


def find_drifts(spec: str) -> tuple[Applied, ...]:
    """The drifts of a specification, ``name:argument`` or a mixture ``a+b``, in the order of application.

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
        raise DataError(f"drift {spec!r}: {error}; for example {example}") from None


def apply_drift(samples: Samples, spec: str, seed: int = 0) -> Samples:
    """Apply a drift, or a mixture of drifts, to samples.

    Args:
        spec: ``name:argument`` or several joined by ``+``, see :func:`drifts`.
        seed: random seed. Each sample has a generator of its own, seeded by `seed` and the sample's id, so
            the result does not depend on order, subset or batch size.
    """
    drifted = samples
    for position, part in enumerate(find_drifts(spec)):
        drifted = part.drift.apply(drifted, part.argument, _seed_at(seed, position))
    return replace(drifted, name=f"{samples.name} + {spec}")


def kept_by(samples: Samples, spec: str, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which samples a drift keeps; a change of the class prior leaves some out.

    Raises:
        DataError: it would leave none.
    """
    drifted = replace(samples, inputs=np.zeros((len(samples), 1), np.float32))
    for position, part in enumerate(find_drifts(spec)):
        if part.drift.level == "output":  # the others change inputs, which do not matter here
            drifted = part.drift.apply(drifted, part.argument, _seed_at(seed, position))
    return np.isin(samples.ids, drifted.ids)


def _seed_at(seed: int, position: int) -> int:
    """The seed for one part of a mixture, so that two noises do not draw the same numbers."""
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
        raise ValueError(
            f"the severity has to be a whole number from 1 to 5, not {repr(text) if text else 'nothing'}"
        )
    return int(text)


def number(what: str, low: float, high: float, default: float | None = None) -> Callable[[str], float]:
    """A parser for numbers above `low` and up to `high`.

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
            raise ValueError(
                f"{what} has to be a number above {low:g} and up to {high:g}, "
                f"not {repr(text) if text else 'nothing'}"
            )
        return value

    return parse


def generators(samples: Samples, seed: int) -> Iterable[np.random.Generator]:
    """A generator for each sample, which depends only on `seed` and the sample's id."""
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
            samples = with_hashes(samples)
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
        summary="no change; for schedules and as a control",
        source="",
    )
)
