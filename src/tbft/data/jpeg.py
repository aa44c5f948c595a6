"""Damage inside JPEG files that decoders ignore silently: what follows is gray, or has other colors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from PIL import Image

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_ZEROS = re.compile(rb"\x00{64,}")
_START, _END, _SCAN, _TABLES, _INTERVAL = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_RESTARTS = range(0xD0, 0xD8)
#: Markers that may follow compressed data: tables, further scans, comments, the end.
_FOLLOWING = {_END, _SCAN, _TABLES, _INTERVAL, 0xDB, 0xDC, 0xFE, *range(0xE0, 0xF0)}
#: Baseline and extended JPEG: each block is coded whole.
_SEQUENTIAL = (0xC0, 0xC1)
#: px; the smallest block of a JPEG, and the largest unit of its data.
_BLOCK, _UNIT = 8, 16

#: Units that have to be gray at the end.
_MIN_GRAY = 2

_END_MARKER = b"\xff\xd9"


def jpeg_damage(blob: bytes) -> str:
    """What is wrong with the contents of a JPEG file; empty if nothing is, or if it is not a JPEG.

    The data have no checksum, but damaged ones mostly contain what no encoder writes: markers in wrong
    places, or long runs of zeros that would mean noise.
    """
    if not blob.startswith(b"\xff\xd8"):
        return ""
    if blob.endswith(b"\0" * 64) and not blob.rstrip(b"\0").endswith(_END_MARKER):
        return "it ends in zeros, like a file whose copying was interrupted"
    at, scans, kind, interval = 2, 0, 0, 0
    symbols: dict[int, int] = {}
    while at < len(blob):
        found = _MARKER.match(blob, at)
        if found is None:
            return _at(at) if scans else ""  # decoders find their way through the header
        code, at = found[1][0], found.end()
        if code == _END:
            return ""
        size = int.from_bytes(blob[at : at + 2], "big")
        content, at = blob[at + 2 : at + size], at + size
        if 0xC0 <= code <= 0xCF and code not in (_TABLES, 0xC8, 0xCC):
            kind = code
        elif code == _TABLES:
            symbols |= _first_symbols(content)
        elif code == _INTERVAL:
            interval = int.from_bytes(content[:2], "big")
        elif code == _SCAN:
            scans += 1
            end, wrong = _scan(blob, at, interval)
            if not wrong and _zeros_mean_noise(content, symbols, kind in _SEQUENTIAL):
                wrong = next((z.start() for z in _ZEROS.finditer(blob, at, end) if z.end() < end), 0)
            if wrong:
                return _at(wrong)
            at = end
    return ""


def _at(position: int) -> str:
    return f"its data are damaged at byte {position:,}"


def _scan(blob: bytes, at: int, interval: int) -> tuple[int, int]:
    """Where compressed data end, and where in them is a marker that should not be there (0: nowhere)."""
    for restarts, found in enumerate(_MARKER.finditer(blob, at)):
        code = found[1][0]
        if code not in _RESTARTS:
            return found.start(), 0 if code in _FOLLOWING else found.start()
        if not interval or code - _RESTARTS[0] != restarts % len(_RESTARTS):
            return found.start(), found.start()
    return len(blob), 0  # cut off, which decoders do notice


def _first_symbols(content: bytes) -> dict[int, int]:
    """Number of each table of AC codes -> the symbol that its code of zeros stands for."""
    found = {}
    while len(content) > 17:
        table, count = content[0], sum(content[1:17])
        if table >> 4:
            found[table & 15] = content[17]
        content = content[17 + count :]
    return found


def _zeros_mean_noise(content: bytes, symbols: Mapping[int, int], sequential: bool) -> bool:
    """Whether zeros in a scan would not mean that blocks are flat, which they may well be.

    Args:
        content: of the scan's header: the number of components, two bytes each, then three on what the scan
            holds of each block.
    """
    if len(content) < 4 or len(content) != 4 + 2 * content[0]:
        return False
    first, _, refined = content[-3:]
    holds_values = sequential or (first > 0 and refined >> 4 == 0)
    tables = {b & 15 for b in content[2:-3:2]}
    return holds_values and any(symbols.get(table, 0) & 15 for table in tables)


def ends_gray(image: Image.Image) -> bool:
    """Whether the rest of a decoded JPEG is the gray that stands for missing data.

    It begins within a row of blocks, is exactly 128, and nothing before it is.
    """
    if image.format != "JPEG" or image.mode not in ("L", "RGB") or min(image.size) < 2 * _UNIT:
        return False
    pixels = np.asarray(image)
    if (pixels[-_BLOCK:, -_BLOCK:] != 128).any():
        return False
    height, width = (n // _UNIT * _UNIT for n in pixels.shape[:2])
    rows, columns = height // _UNIT, width // _UNIT
    cells = (pixels[:height, :width] == 128).reshape(rows, _UNIT, columns, -1)
    gray = cells.all(axis=(1, 3)).reshape(-1)
    first = int(gray.argmax())
    return bool(gray[first:].all()) and first % columns != 0 and len(gray) - first >= _MIN_GRAY
