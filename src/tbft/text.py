"""Text from files, made safe to show."""

from __future__ import annotations

import unicodedata

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


def _shown(letter: str, lines: bool) -> str:
    if letter in "\n\t" and lines:
        return letter
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in _JOINERS
    return letter.encode("unicode_escape").decode() if hidden else letter
