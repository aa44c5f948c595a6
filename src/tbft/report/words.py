"""Numbers as text: with units, and a dash for unknown values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DASH = "\u2013"
#: A no-break space, for between a number and its unit.
_SPACE = "\u00a0"


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction as percent.

    >>> percent(0.2087), percent(None)
    ('20.9\\xa0%', '–')
    """
    return DASH if share is None else f"{100 * share:.{digits}f}{_SPACE}%"


def points(difference: float, digits: int = 1) -> str:
    """A difference of two fractions in percentage points, with a sign and a typographic minus.

    >>> points(-0.049)
    '−4.9'
    """
    return signed(100 * difference, digits)


def signed(value: float, digits: int = 1) -> str:
    """A number with a sign.

    >>> signed(2.13, 2)
    '+2.13'
    """
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def seconds(value: float | None) -> str:
    """A duration.

    >>> seconds(0.04123), seconds(9.02), seconds(912.0), seconds(None)
    ('41\\xa0ms', '9.0\\xa0s', '15.2\\xa0min', '–')
    """
    if value is None:
        return DASH
    if value >= 120:
        return f"{value / 60:.1f}{_SPACE}min"
    if 0 < value < 0.1:
        return f"{1000 * value:.2g}{_SPACE}ms"
    return f"{value:.1f}{_SPACE}s" if value >= 1 else f"{value:.2g}{_SPACE}s"


def size(count: float | None) -> str:
    """A size in bytes, KiB, MiB or GiB.

    >>> size(93_896), size(616 * 2**20), size(12)
    ('91.7\\xa0KiB', '616\\xa0MiB', '12\\xa0bytes')
    """
    if count is None:
        return DASH
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f}{_SPACE}{unit}" if value < 100 else f"{value:,.0f}{_SPACE}{unit}"
    return f"{count:.0f}{_SPACE}bytes"


def joules(value: float | None) -> str:
    """An energy.

    >>> joules(12.34), joules(None)
    ('12.3\\xa0J', '–')
    """
    return DASH if value is None else f"{value:,.3g}{_SPACE}J" if value < 1000 else f"{value:,.0f}{_SPACE}J"


def count(number: int | None, noun: str = "") -> str:
    """A count with its noun.

    >>> count(1500, "sample"), count(1, "sample")
    ('1,500\\xa0samples', '1\\xa0sample')
    """
    if number is None:
        return DASH
    plural = "" if number == 1 else "s"
    return f"{number:,}{_SPACE}{noun}{plural}" if noun else f"{number:,}"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def sentence(words: str) -> str:
    """Words as a sentence.

    >>> sentence("it helps")
    'It helps.'
    """
    return f"{words[:1].upper()}{words[1:]}."


def nonbreaking(text: str) -> str:
    """A sentence without line breaks between numbers and units.

    >>> nonbreaking("66 % for 10.8 s, with ease")
    '66\\xa0% for 10.8\\xa0s, with ease'
    """
    return re.sub(r"(?<=\d) (?=(%|s|J|MiB)(\W|$))", _SPACE, text)


def gained(value: float, unit: str = "points") -> str:
    """A change in percentage points, or in another score.

    >>> gained(0.125), gained(-0.5, "score")
    ('+12.5 points', '\u22120.5')
    """
    if unit == "points":
        return f"{points(value)} points"
    return f"{value:+.3g}".replace("-", "\u2212")


def confidence_words(diagnosis: Mapping[str, Any]) -> str:
    """The confidence in brackets, if anything was diagnosed.

    >>> confidence_words({"verdict": "drift", "confidence": 0.9})
    ' (confidence 90 %)'
    """
    known = diagnosis["verdict"] != "not diagnosed"
    return f" (confidence {100 * diagnosis['confidence']:.0f} %)" if known else ""
