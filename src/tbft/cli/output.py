"""Output that cannot control the terminal, whatever names and texts files contain."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TextIO

from tbft.text import visible

#: Cursor movements of progress bars.
_MOVES = re.compile(r"\r|(\n|\x1b\[A)*")


class VisibleStream:
    """A text stream that escapes control characters, direction marks and the like.

    Args:
        progress: let progress bars move the cursor, for stderr.
    """

    def __init__(self, stream: TextIO, progress: bool = False) -> None:
        self._stream, self._progress = stream, progress

    def write(self, text: str) -> int:
        """Write text, escaped where necessary, and limited to what the stream can encode."""
        moves = self._moves(text) if self._progress else ""
        encoding = self._stream.encoding or "utf-8"
        shown = visible(text[len(moves) :]).encode(encoding, "backslashreplace").decode(encoding)
        with self._forgiving():
            self._stream.write(moves + shown)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._forgiving():
            self._stream.flush()

    def _forgiving(self) -> AbstractContextManager[None]:
        """Messages that cannot be shown, as on a full disk, do not end the work."""
        return suppress(OSError) if self._progress else nullcontext()

    @staticmethod
    def _moves(text: str) -> str:
        if not text.strip(" \r"):  # clears a line
            return text
        match = _MOVES.match(text)
        return match[0] if match else ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
