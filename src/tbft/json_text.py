"""JSON text as plain values: what cannot be used is refused, and everything that is written can be read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tbft.errors import SchemaError, TbftError
from tbft.text import visible

#: No file of ours nests deeper, or holds larger numbers, which would overflow in computations.
MAX_DEPTH, MAX_NUMBER = 32, 2**63
#: Maximum size of a JSON text by default.
MAX_BYTES = 16 << 20


def decode(text: str | bytes, where: str, error: type[TbftError] = SchemaError) -> Any:
    """The value of a JSON text.

    Raises:
        error: not JSON, a key twice, NaN or infinity, a number beyond 64 bits, text that is not Unicode,
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; the parser itself would drop a repeated key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{visible(twice, lines=False)!r} appears twice")
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
