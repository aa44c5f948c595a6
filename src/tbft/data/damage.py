"""Damage inside picture files that decoders ignore silently."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from tbft.data.jpeg import jpeg_damage
from tbft.data.tiff import TIFF, tiff_damage

_PNG = b"\x89PNG\r\n\x1a\n"
_ZEROS = b"\0" * 64
_INTERRUPTED = "it ends in zeros, like a file whose copying was interrupted"
#: Formats whose compressed data never hold that many zeros: WebP, JPEG 2000, and AVIF and its relatives.
_DENSE = re.compile(rb"RIFF....WEBP|\x00\x00\x00\x0cjP|\xff\x4f\xff\x51|....ftyp", re.DOTALL)


def file_damage(blob: bytes) -> str:
    """What is wrong with the contents of a file that can be decoded anyway; empty if nothing is seen.

    PNG has checksums, and so has a TIFF packed with deflate. In other formats only some damage shows, above
    all zeros where data should be; uncompressed pixels (BMP, TIFF, PPM) show none.
    """
    if blob.startswith(_PNG):
        return _png_damage(blob)
    if blob.startswith(b"\xff\xd8"):
        return jpeg_damage(blob)
    if blob.startswith(TIFF):
        return tiff_damage(blob)
    if _DENSE.match(blob) is None:
        return ""
    if blob.endswith(_ZEROS):
        return _INTERRUPTED
    packed = (*_webp_data(blob), *_avif_data(blob))
    zeros = (start + content.find(_ZEROS) for start, content in packed if _ZEROS in content)
    return next((f"its data are damaged at byte {at:,}" for at in zeros), "")


def _png_damage(blob: bytes) -> str:
    """The first part that a picture needs whose checksum does not match."""
    at = len(_PNG)
    while at + 12 <= len(blob):
        end = at + 8 + int.from_bytes(blob[at : at + 4], "big")
        kind = blob[at + 4 : at + 8]
        if kind == b"IEND":
            return ""
        if end + 4 > len(blob):
            return f"its data are damaged after byte {at:,}: some of them are missing"
        if kind[:1].isupper() and zlib.crc32(blob[at + 4 : end]) != int.from_bytes(
            blob[end : end + 4], "big"
        ):
            return f"its data are damaged between bytes {at:,} and {end:,}: a checksum does not match"
        at = end + 4
    return ""


def _webp_data(blob: bytes) -> Iterator[tuple[int, bytes]]:
    """Start and content of the compressed pictures in a WebP file."""
    at = 12
    while blob.startswith(b"RIFF") and at + 8 <= len(blob):
        size = int.from_bytes(blob[at + 4 : at + 8], "little")
        if blob[at : at + 4] in (b"VP8 ", b"VP8L"):
            yield at + 8, blob[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _avif_data(blob: bytes) -> Iterator[tuple[int, bytes]]:
    """Start and content of the compressed data in an AVIF file."""
    at = 0
    while blob[4:8] == b"ftyp" and at + 8 <= len(blob):
        size = int.from_bytes(blob[at : at + 4], "big") or len(blob) - at
        header = 8
        if size == 1:
            header, size = 16, int.from_bytes(blob[at + 8 : at + 16], "big")
        if size < header:
            return
        if blob[at + 4 : at + 8] == b"mdat":
            yield at + header, blob[at + header : at + size]
        at += size
