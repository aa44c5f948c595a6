"""What a command prints: nothing in it steers the terminal, whatever names and texts the files hold."""

from __future__ import annotations

import re
from typing import Any, TextIO

from tbft.text import visible

#: What progress bars write to place themselves.
_MOVES = re.compile(r"\r|(\n|\x1b\[A)*")


class VisibleStream:
    """A text stream that shows control characters, marks of direction and the like as escapes.

    Args:
        progress: let progress bars move the cursor, as on stderr.
    """

    def __init__(self, stream: TextIO, progress: bool = False) -> None:
        self._stream, self._progress = stream, progress

    def write(self, text: str) -> int:
        """Write it, made visible, in what the stream can encode."""
        moves = self._moves(text) if self._progress else ""
        encoding = self._stream.encoding or "utf-8"
        shown = visible(text[len(moves) :]).encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(moves + shown)
        return len(text)

    @staticmethod
    def _moves(text: str) -> str:
        if not text.strip(" \r"):  # wipes a line
            return text
        found = _MOVES.match(text)
        return found[0] if found else ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
