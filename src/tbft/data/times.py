"""When samples were taken: attributes that give the time, as numbers in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.columns import ORDER_WORDS, TIME_WORDS, UNKNOWN, named_groups, rank, ranked, text_of
from tbft.data.samples import Samples
from tbft.errors import DataError, unknown_attribute

Array = npt.NDArray[Any]
Match = dict[str, str | None]  # what a regular expression has found, by name

_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_SIGN = r"(?P<sign>[-/.:])"
_AFTER = rf"(?:[T ]+{_TIME})?"
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}}){_SIGN}(?P<a>\d{{1,2}})(?P=sign)(?P<b>\d{{1,2}}){_AFTER}")
_YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}}){_SIGN}(?P<b>\d{{1,2}})(?P=sign)(?P<year>\d{{4}}),?{_AFTER}")
_TIME_ALONE = re.compile(_TIME)


@dataclass(frozen=True, eq=False)
class Order:
    """The order in which samples were taken.

    Attributes:
        ranks: ``int64`` (n,), the position of each sample.
        words: what it is the order of.
        is_known: an attribute gives the time of each sample, by its name.
        notes: what was assumed.
    """

    ranks: npt.NDArray[np.int64]
    words: str
    is_known: bool
    notes: tuple[str, ...] = ()


def find_order(samples: Samples, order: str | None, asked: bool) -> Order:
    """The order of time: named, found by name, or that of the set.

    Args:
        order: attributes joined by commas; ``"file"``: the order of the set; else it is found by name.
        asked: the user asked for an order; otherwise, one that is not certain is not taken.

    Raises:
        DataError: no such attribute, or the order of its values is ambiguous.
    """
    if order in (None, "file", "none"):
        keys = [] if order == "file" else order_keys(samples, asked=True)
        keys = [key for key in keys if asked or _is_certain(samples.attributes[key])]
    else:
        keys = [key.strip() for key in order.split(",")]
    notes: tuple[str, ...] = ()
    if not keys and order != "file":
        notes = (
            "no attribute gives the time of samples, so their order in the set counts; --order KEY names one",
        )
    words, is_known = ", ".join(keys) or "the set", bool(order_keys(samples, asked=False))
    return Order(positions_in_time(samples, keys), words, is_known, notes)


def order_keys(samples: Samples, asked: bool) -> list[str]:
    """The attributes that give the time of a sample, by their names, most significant first; or nothing.

    A numbered execution counts together with the time in it. Where the user `asked` for an order,
    other names that may give it count too; otherwise, values have to be numbers or certain dates.
    """
    executions = [key for key in samples.attributes if rank(key, ("execution",)) is not None]
    found = sorted(
        (place, key)
        for place, key, _ in ranked(samples, ORDER_WORDS if asked else TIME_WORDS)
        if asked or _is_certain(samples.attributes[key])
    )
    first = [key for _, key in found[:1]]
    return executions[:1] + [key for key in first if key not in executions] if first else []


def are_from_stretches(samples: Samples) -> bool:
    """Whether an attribute is a time or a group by its name: such samples resemble their neighbors."""
    return bool(order_keys(samples, asked=False) or named_groups(samples))


def positions_in_time(samples: Samples, keys: list[str]) -> npt.NDArray[np.int64]:
    """The rank of each sample in the order of these attributes; without any, in the order of the file.

    Samples without a value come last; among equals the order of the file holds.

    Raises:
        DataError: no such attribute, or the order of its values is ambiguous.
    """
    columns = []
    for key in reversed(keys):
        if key not in samples.attributes:
            problem = unknown_attribute("--order", key, samples.attributes)
            raise DataError(f"{samples.name}: {problem}; or give file (the order of the set) or none")
        try:
            columns.append(_sortable(samples.attributes[key]))
        except ValueError as error:
            raise DataError(
                f"{samples.name}: --order {key}: {error}; write them as numbers, or as 2023-01-31 or "
                "2023-01-31 13:05, or give --order file for the order of the set"
            ) from None
    order = np.lexsort((samples.ids, *columns))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _is_certain(values: Array) -> bool:
    try:
        _sortable(values)
    except ValueError:
        return False
    return True


def _sortable(values: Array) -> Array:
    """Numbers in the order of time; NaN where there is no value.

    Raises:
        ValueError: text whose order in time is not certain.
    """
    flat = np.asarray(values).reshape(len(values), -1)[:, 0]
    if flat.dtype.kind in "iufMm":
        return flat
    texts = [text_of(v).strip() for v in flat.tolist()]
    known = [i for i, text in enumerate(texts) if text.casefold() not in UNKNOWN]
    found = np.full(len(texts), np.nan)
    found[known] = _of_texts([texts[i] for i in known])
    return found


def _of_texts(texts: Sequence[str]) -> Sequence[float] | npt.NDArray[np.int64]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        pass
    for form in (_YEAR_FIRST, _YEAR_LAST, _TIME_ALONE):
        matches = [form.fullmatch(text) for text in texts]
        if None not in matches:
            return _seconds([m.groupdict() for m in matches if m], form is _YEAR_FIRST)
    if len({re.sub(r"\d+", "0", text) for text in texts}) > 1:
        raise ValueError(f"the order of {texts[0]!r} and {texts[-1]!r} in time is ambiguous")
    numbers = [tuple(map(int, re.findall(r"\d+", text))) for text in texts]  # frame_9 comes before frame_10
    return np.unique(np.array(numbers, dtype=np.float64), axis=0, return_inverse=True)[1].reshape(-1)


def _seconds(matches: Sequence[Match], year_first: bool) -> list[float]:
    days = [0] * len(matches)
    if "year" in matches[0]:
        a, b, years = ([int(m[key] or 0) for m in matches] for key in ("a", "b", "year"))
        months, in_month = (b, a) if not year_first and _day_comes_first(matches) else (a, b)
        days = [date(*ymd).toordinal() for ymd in zip(years, months, in_month, strict=True)]
    if len({m["zone"] is None for m in matches}) > 1:
        raise ValueError("some of its times have a time zone, and others have none")
    return [86400 * day + _of_day(m) for day, m in zip(days, matches, strict=True)]


def _day_comes_first(matches: Sequence[Match]) -> bool:
    """31.1.2023 has the day first; with slashes, a number above 12 shows which is the day."""
    if {m["sign"] for m in matches} == {"."}:
        return True
    first, second = (max(int(m[key] or 0) for m in matches) for key in "ab")
    if (first > 12) == (second > 12):
        shown = "{a}{sign}{b}{sign}{year}".format(**matches[0])
        raise ValueError(f"it is not certain whether the day or the month comes first in {shown}")
    return first > 12


def _of_day(match: Match) -> float:
    """Seconds since midnight, in UTC if there is a time zone."""
    hour, half = int(match["hour"] or 0), (match["half"] or "").casefold()
    if half:
        hour = hour % 12 + 12 * half.startswith("p")
    seconds = 3600 * hour + 60 * int(match["minute"] or 0) + float((match["second"] or "0").replace(",", "."))
    zone = match["zone"]
    if zone and zone != "Z":
        minutes = 60 * int(zone[1:3]) + int(zone[-2:])
        seconds -= 60 * minutes * (-1 if zone[0] == "-" else 1)
    return seconds
