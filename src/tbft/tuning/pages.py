"""Keep the memory that a step frees for the next step, instead of fetching it from the system every time.

glibc returns large blocks to the system as soon as they are free. The activations of a step are such blocks,
so each step would get thousands of new pages, which the system has to clear: about a tenth of a step's time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Numbers of the settings in glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Blocks up to this size come from the heap; the largest value that glibc takes.
_LARGEST_BLOCK = 32 << 20
#: Free memory kept at the end of the heap: all of it, and what glibc chooses by itself.
_ALL, _USUAL = 2**31 - 1, 64 << 20


@contextmanager
def pages_kept() -> Iterator[None]:
    """Inside, memory that is freed stays with the process; on exit, it goes back to the system.

    Nothing happens where malloc is not glibc's, or is configured by environment variables.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    libc.mallopt(_TRIM_THRESHOLD, _ALL)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _USUAL)
        libc.malloc_trim(0)


@cache
def _glibc() -> Any | None:
    configured = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if not sys.platform.startswith("linux") or configured:
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, n) for n in ("mallopt", "malloc_trim", "gnu_get_libc_version")) else None
