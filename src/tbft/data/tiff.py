"""Damage inside TIFF files that decoders ignore silently."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any, cast

from PIL import Image

from tbft.data.jpeg import jpeg_damage

TIFF = (b"II*\0", b"MM\0*")
_COMPRESSION, _DEFLATE, _JPEG = 259, (8, 32946), 7
#: Tags with the positions and the lengths of a picture's pieces: strips or tiles.
_PIECES = ((273, 279), (324, 325))


def tiff_damage(blob: bytes) -> str:
    """What is wrong with the pieces of the first picture in a TIFF; empty if nothing is seen.

    Pieces that are packed with deflate have a checksum, which decoders do not check; JPEGs are checked as
    JPEG files are. Other compressions have none, and uncompressed pixels may have any value.
    """
    with Image.open(io.BytesIO(blob), formats=["TIFF"]) as image:
        tags = cast(Any, image).tag_v2  # of TIFFs only, which the type does not say
        compression = tags.get(_COMPRESSION)
        starts, sizes = next(
            ((_numbers(tags.get(a)), _numbers(tags.get(b))) for a, b in _PIECES if tags.get(a)), ((), ())
        )
    for start, size in zip(starts, sizes, strict=False):
        if start + size > len(blob):
            return f"its data are damaged: a strip at byte {start:,} reaches beyond the end of the file"
        piece = blob[start : start + size]
        if compression in _DEFLATE and not _inflates(piece):
            where = f"between bytes {start:,} and {start + size:,}"
            return f"its data are damaged {where}: a checksum does not match"
        if compression == _JPEG and (wrong := jpeg_damage(piece)):
            return f"in the strip at byte {start:,}, {wrong}"
    return ""


def _numbers(value: Any) -> Sequence[int]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _inflates(piece: bytes) -> bool:
    stream = zlib.decompressobj()
    try:
        stream.decompress(piece)
    except zlib.error:
        return False
    return stream.eof
