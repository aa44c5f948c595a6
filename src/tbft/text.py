"""Text from files, made safe to show."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

#: Unseen, but part of how words and signs are written.
_JOINERS = "\u200c\u200d"


def visible(text: str, lines: bool = True) -> str:
    r"""The text with what would steer a terminal, or turn around what stands beside it, as escapes.

    These are control characters, marks of direction, invisible characters and halves of surrogate pairs.

    Args:
        lines: keep line breaks and tabs.

    >>> print(visible("a\x1b[31mb \u202egnp.exe"))
    a\x1b[31mb \u202egnp.exe
    >>> print(visible("caf\u00e9\nnext", lines=False))
    café\nnext
    """
    if text.isprintable():  # nothing of the kind
        return text
    return "".join(_shown(letter, lines) for letter in text)


def visible_values(value: Any) -> Any:
    """Plain values with all text in them, keys included, made :func:`visible`, on one line each.

    >>> visible_values({"a\\x1b": ["b\\n", 1]})
    {'a\\\\x1b': ['b\\\\n', 1]}
    """
    if isinstance(value, str):
        return visible(value, lines=False)
    if isinstance(value, Mapping):
        return {visible_values(key): visible_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible_values(inner) for inner in value]
    return value


def _shown(letter: str, lines: bool) -> str:
    if letter in "\n\t" and lines:
        return letter
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in _JOINERS
    return letter.encode("unicode_escape").decode() if hidden else letter
