"""Conditions on attributes: ``site=a`` and ``site=b`` mean either, ``site!=c`` excludes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.errors import DataError, unknown_attribute

Array = npt.NDArray[Any]
#: What :func:`as_conditions` takes.
Where = Mapping[str, Any] | Iterable[str]

#: Values that a message names.
_SHOWN = 12


@dataclass(frozen=True)
class Condition:
    """What the values of one attribute may be, as text.

    Attributes:
        wanted: one of these; empty: any.
        excluded: none of these.
    """

    wanted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " or ".join(self.wanted) or "not " + " or ".join(self.excluded)


Conditions = Mapping[str, Condition]


def as_conditions(where: Where | None) -> Conditions:
    """Conditions by attribute, all of which a sample has to meet.

    Args:
        where: ``{"site": "a"}``, ``{"site": ["a", "b"]}``, or texts ``KEY=VALUE`` and ``KEY!=VALUE``.

    Raises:
        DataError: a text that is neither.

    >>> as_conditions(["site=a", "site=b", "day!=3"])["site"]
    Condition(wanted=('a', 'b'), excluded=())
    """
    if where is None:
        return {}
    if isinstance(where, Mapping):
        return {str(key): _condition(value) for key, value in where.items()}
    found: dict[str, Condition] = {}
    for text in [where] if isinstance(where, str) else where:
        key, equals, value = text.partition("=")
        name = key.removesuffix("!").strip()
        if not (name and equals):
            raise DataError(f"--where {text!r}: write KEY=VALUE or KEY!=VALUE, for example domain=target")
        before = found.get(name, Condition())
        if key.endswith("!"):
            found[name] = replace(before, excluded=(*before.excluded, value))
        else:
            found[name] = replace(before, wanted=(*before.wanted, value))
    return found


def _condition(value: Any) -> Condition:
    if isinstance(value, Condition):
        return value
    many = isinstance(value, (list, tuple, set, frozenset))
    return Condition(tuple(str(v) for v in value) if many else (str(value),))


def single_values(conditions: Conditions) -> dict[str, str]:
    """Attributes of which exactly one value is wanted, so that a reader need not read the rest."""
    return {key: c.wanted[0] for key, c in conditions.items() if len(set(c.wanted)) == 1}


def matching(attributes: Mapping[str, Array], conditions: Conditions, name: str) -> npt.NDArray[np.bool_]:
    """Which samples meet all conditions.

    Numbers are compared as numbers, anything else as text.

    Raises:
        DataError: an attribute or a value that is not there, or no sample left.
    """
    count = len(next(iter(attributes.values()))) if attributes else 0
    keep = np.ones(count, dtype=bool)
    for key, condition in conditions.items():
        if key not in attributes:
            raise DataError(f"{name}: {unknown_attribute('--where', key, attributes)}")
        values = np.asarray(attributes[key])
        hits = {text: _equal(values, text) for text in (*condition.wanted, *condition.excluded)}
        for text, hit in hits.items():
            if not hit.any():
                raise DataError(f"{name}: no sample has {key}={text}; {key} is one of {_shown(values)}")
        if condition.wanted:
            keep &= np.any([hits[text] for text in condition.wanted], axis=0)
        for text in condition.excluded:
            keep &= ~hits[text]
    if conditions and not keep.any():
        said = " and ".join(f"{key} {condition}" for key, condition in conditions.items())
        raise DataError(f"{name}: no sample is left where {said}, though each of these values occurs")
    return keep


def _equal(values: Array, text: str) -> npt.NDArray[np.bool_]:
    if values.dtype.kind in "iuf":
        try:
            hit = values == float(text)
        except ValueError:
            hit = np.zeros(len(values), dtype=bool)
        return np.asarray(hit | (_texts(values) == text))
    return np.asarray(_texts(values) == text)


def _texts(values: Array) -> Array:
    if values.dtype.kind in "SO":
        return np.array([v.decode("utf8", "replace") if isinstance(v, bytes) else str(v) for v in values])
    return values.astype(str)


def _shown(values: Array) -> str:
    found = sorted(set(_texts(values).tolist()))
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
