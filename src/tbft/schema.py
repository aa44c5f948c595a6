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
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tbft.errors import SchemaError, TbftError, unknown
from tbft.text import visible

#: No file of ours nests deeper, or holds larger numbers: others overflow where they are computed with.
MAX_DEPTH, MAX_NUMBER = 32, 2**63
#: Of a text of JSON, unless told otherwise.
MAX_BYTES = 16 << 20

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


def decode(text: str | bytes, where: str, error: type[TbftError] = SchemaError) -> Any:
    """The value of a JSON text.

    Raises:
        error: no JSON, a key twice, NaN or infinity, a number beyond 64 bits, text that is no Unicode,
            too deep, or too large.
    """
    if len(text) > MAX_BYTES:
        raise error(f"{where} is too large: {len(text):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
        _check_plain(value)
    except RecursionError:
        raise error(f"{where} is not usable: it nests too deep") from None
    except (ValueError, SchemaError) as cause:
        raise error(f"{where} is not usable: {cause}") from cause
    return value


def encode(value: Any, **style: Any) -> str:
    """A value as JSON text; numbers that JSON cannot represent (NaN, infinity) become null.

    Args:
        style: as for :func:`json.dumps`.

    >>> encode({"loss": float("nan"), "widths": (1, 2)})
    '{"loss": null, "widths": [1, 2]}'
    """
    return json.dumps(_representable(value), allow_nan=False, **style)


def _representable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _representable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_representable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: str | Path, error: type[TbftError] = SchemaError) -> Any:
    """The value of a JSON file; errors as of :func:`decode`, and a file that cannot be read."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror or cause}") from cause
    return decode(text, str(path), error)


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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; the parser itself would drop a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{visible(twice, lines=False)!r} is there twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -MAX_NUMBER <= int(digits) < 2 * MAX_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is not a finite number")
    return value


def _check_plain(value: Any) -> None:
    """Depth and text of what was decoded; without recursion, for it may be deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        for text in _texts(level):
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"{visible(text, lines=False)[:60]!r} is not Unicode text")
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _texts(values: list[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
