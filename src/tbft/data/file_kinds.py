"""What files of a set are, by their names and by how they begin."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from PIL import Image

#: Pillow only passes these to other programs, or knows nothing but their name.
_NOT_DECODED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "PDF", "PALM", "IPTC"}
#: Pictures that Pillow cannot read (or only their thumbnails): refused, not passed over.
FOREIGN = {
    ".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    ".dcm", ".svg", ".eps",
}  # fmt: skip
#: Recordings, of which ``.wav`` is read and others are refused.
RECORDINGS = {
    ".wav", ".wave", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff",
}  # fmt: skip
#: How pictures begin, for files whose name does not say what they are.
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM.{4}\0\0\0\0|"
    rb"....ftypavif|\0\0\0\x0cjP  |P[1-6]\s",
    re.DOTALL,
)
_MAGIC_BYTES = 16


def is_picture(suffix: str, read: Callable[[int], bytes]) -> bool:
    """Whether a file is a picture, by the end of its name or by how it begins."""
    if suffix in picture_suffixes() or suffix in RECORDINGS:
        return suffix not in RECORDINGS
    try:
        return _MAGIC.match(read(_MAGIC_BYTES)) is not None
    except Exception:  # unreadable, and its name does not say that it is a picture
        return False


@cache
def picture_suffixes() -> frozenset[str]:
    """Endings of the names of pictures: those that Pillow decodes here, and those of other kinds."""
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind not in _NOT_DECODED) | FOREIGN


@cache
def decoders() -> tuple[str, ...]:
    """The formats that Pillow decodes itself; for PostScript it would run another program."""
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in _NOT_DECODED)
