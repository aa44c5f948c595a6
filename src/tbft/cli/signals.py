"""Ctrl-C and SIGTERM end in one line, with status 130 or 143 and no half-written file, at any time.

They raise KeyboardInterrupt, so that tuning can keep what it has learned. Where an exception would get lost
or be converted (during an import, in a destructor), and at the second signal, the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

#: The signal that was received, or 0.
received = 0

#: What an interrupt leaves behind, for the one line; a command that keeps something says what.
NOTHING = "no half-written file is left"
left_behind = NOTHING

#: Kept alive, as the system only holds its address.
_on_bus_error: Any = None

_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def install() -> None:
    """Handle the signals, except those that the parent process has set to be ignored."""
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable


def handle_bus_errors() -> None:
    """End in one line, too, where a memory-mapped file of arrays is truncated while it is read.

    The system stops the process in the middle of an instruction then, so that a handler of Python's own would
    never run.
    """
    if not hasattr(signal, "SIGBUS"):
        return
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        global _on_bus_error
        _on_bus_error = ctypes.CFUNCTYPE(None, ctypes.c_int)(_bus_error)
        ctypes.CDLL(None).signal(int(signal.SIGBUS), _on_bus_error)


def uninstall() -> None:
    """Ignore the signals, as the work is done and Python's own exit must not be disturbed."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def clean_up() -> None:
    """Remove temporary files and locks, where the modules that made them are loaded."""
    for module, name in (("atomic", "remove_unfinished"), ("claims", "release_claims")):
        act = getattr(sys.modules.get(f"tbft.files.{module}"), name, None)
        if act is not None:
            with suppress(OSError):
                act()


def say() -> None:
    """Print the one line."""
    line = "interrupted" if received in (0, signal.SIGINT) else "terminated"
    start = "\n" if os.isatty(2) else ""  # below a progress bar
    with suppress(OSError):
        os.write(2, f"{start}tbft: {line}; {left_behind}\n".encode(errors="backslashreplace"))


def status() -> int:
    """The exit status for the received signal."""
    return 128 + (received or signal.SIGINT)


def _bus_error(_: int) -> None:
    clean_up()
    with suppress(OSError):
        os.write(
            2, b"tbft: a file of arrays was truncated while it was read; run this again once it is complete\n"
        )
    os._exit(2)


def _handle(number: int, frame: FrameType | None) -> None:
    global received
    again, received = bool(received), number
    if again or _importing(frame):
        _leave()
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unraisable(found: Any) -> None:
    """Handle interrupts also where Python would print an exception and continue."""
    if received and issubclass(found.exc_type, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(found)


def _leave() -> None:
    clean_up()
    say()
    os._exit(status())
