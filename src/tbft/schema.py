"""What files hold, as values of declared types: nothing decoded is used before it has been checked.

A small dataclass says what is expected, with limits where the type does not give them::

    @dataclass(frozen=True)
    class Sample:
        accuracy: Share
        name: str
        widths: tuple[int, ...] = ()

    sample = build(Sample, decode(text, "sample.json"), "sample.json")
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tbft.errors import SchemaError, TbftError, unknown
from tbft.text import visible

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Limits of a number, both included."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Form:
    """What a text has to look like."""

    pattern: str
    meaning: str


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0)]
Amount = Annotated[float, Range(0)]
Digest = Annotated[str, Form("[0-9a-f]{64}", "a SHA-256 in hex")]
Name = Annotated[str, Form(r"(?s).{1,4096}", "a name")]


def build(cls: type[T], value: Any, where: str, error: type[TbftError] = SchemaError) -> T:
    """A dataclass made of a decoded object, each field of the type that it declares.

    Raises:
        error: a key is missing or unknown, or a value is of another type or out of its range; the message
            names it.
    """
    try:
        made: T = _checked(cls, value, "")
    except SchemaError as cause:
        raise error(f"{where} is not usable: {cause}") from cause
    return made


def _checked(kind: Any, value: Any, place: str) -> Any:
    """`value` as an instance of a type; `place` is the path to it, for messages."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _limited(_checked(arguments[0], value, place), arguments[1:], place)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, place)
    if origin is Literal:
        if not any(type(value) is type(a) and value == a for a in arguments):
            raise _wrong(place, " or ".join(repr(a) for a in arguments), value)
        return value
    if is_dataclass(kind):
        return _object(kind, value, place)
    if origin in (list, tuple):
        return _sequence(origin, arguments, value, place)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(place, "an object", value)
        return {k: _checked(arguments[1], v, _join(place, k)) for k, v in value.items()}
    return _scalar(kind, value, place)


def _scalar(kind: Any, value: Any, place: str) -> Any:
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    if kind is type(None) and value is None:
        return None
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise _wrong(place, words.get(kind, "null"), value)


def _one_of(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(k for k in kinds if k is not type(None))
    for kind in kinds[:-1]:
        try:
            return _checked(kind, value, place)
        except SchemaError:
            continue
    return _checked(kinds[-1], value, place)


def _object(cls: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, "an object", value)
    hints = _hints(cls)
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise SchemaError(f"{place or 'it'} lacks {', '.join(missing)}")
    if extra := [key for key in value if key not in hints]:
        raise SchemaError(unknown("key", visible(_join(place, extra[0]), lines=False), hints))
    return cls(**{key: _checked(hints[key], v, _join(place, key)) for key, v in value.items()})


def _sequence(origin: Any, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(place, "a list", value)
    if origin is list or kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(place, f"a list of {len(kinds)}", value)
    return origin(_checked(k, v, f"{place}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _limited(value: Any, limits: tuple[Any, ...], place: str) -> Any:
    for limit in limits:
        if isinstance(limit, Range) and not limit.low <= value <= limit.high:
            words = f"from {limit.low:g}" + ("" if limit.high == math.inf else f" to {limit.high:g}")
            raise _wrong(place, f"a number {words}", value)
        if isinstance(limit, Form) and not re.fullmatch(limit.pattern, value):
            raise _wrong(place, limit.meaning, value)
    return value


def _wrong(place: str, wanted: str, value: Any) -> SchemaError:
    text = json.dumps(value, default=str)
    shown = text if len(text) <= 60 else text[:56] + " ..."
    return SchemaError(f"{visible(place, lines=False) or 'it'} has to be {wanted}, not {shown}")


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
