"""Pictures as a viewer shows them, however they are stored: one function for files, archives and datasets."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from tbft.data.jpeg import ends_gray
from tbft.data.picture_notes import (
    ALL_BLACK,
    BYTES_AS_FLOATS,
    BYTES_AS_INTEGERS,
    CMYK,
    FIRST_FRAME,
    SHARES,
    SIXTEEN_BITS,
    TRANSPARENT,
    TURNED,
    TWELVE_BITS,
)
from tbft.errors import DataError

_GRAY = ("1", "L", "LA", "La", "I", "F")
_ORIENTATION = 0x0112
_TURNED = range(2, 9)


def as_viewed(image: Image.Image, keep_alpha: bool = False) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture as every viewer shows it: upright, of 8 bits, gray or RGB, without transparency.

    Args:
        image: any picture of Pillow's, of any mode; it is left as it was.
        keep_alpha: give ``RGBA``, with the transparency that there is, for a model of four channels.

    Returns:
        a picture of mode ``L`` or ``RGB``, and what was done to it that a user should know about, in the
        words of this module's constants; :class:`Tally` makes sentences of them.

    Raises:
        DataError: it cannot be decoded, or the meaning of its values is ambiguous.

    >>> picture, notes = as_viewed(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))
    >>> picture.mode, picture.getpixel((0, 0)), notes
    ('RGB', (255, 255, 255), ('have transparency, which was composed on white',))
    """
    try:
        notes = [FIRST_FRAME] if _has_more_frames(image) else []
        if image.format in ("PNG", "TIFF") and ";16" in str(getattr(image, "tile", "")):
            notes.append(SIXTEEN_BITS)  # also in color, of which Pillow keeps the high byte
        # Before a TIFF is loaded, which turns it. This would load a PNG, and hide what is wrong with it.
        turned = image.format != "PNG" and _orientation(image) in _TURNED
        image.load()
        if ends_gray(image):
            raise DataError("its data are damaged: the rest of it is plain gray")
        turned |= _orientation(image) in _TURNED  # which a PNG may hold behind its pixels
        upright = _upright(image)
        if turned:
            notes.append(TURNED)
        if keep_alpha and upright.has_transparency_data and not upright.mode.startswith("I"):
            return _layered(upright), tuple(notes)
        shown, more = _in_eight_bits(upright)
    except DataError:
        raise
    except Exception as error:  # a decoder can raise anything
        raise DataError(plain_reason(error)) from error
    return shown.convert("RGBA") if keep_alpha else shown, tuple(dict.fromkeys([*notes, *more]))


def is_gray(image: Image.Image) -> bool:
    """Whether this picture is shown in gray, by its mode, without decoding it."""
    return image.mode in _GRAY or image.mode.startswith("I;")


def shown_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as shown, without decoding the picture."""
    turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def resize(picture: Image.Image, side: int, shorter: int | None = None, crop: str = "center") -> Image.Image:
    """Fit a picture to a square of `side` px, bilinear and antialiased.

    Args:
        shorter: what the shorter side is scaled to before the center is cut out; default `side`.
        crop: ``center``, or ``none`` to scale both sides to `side` and cut nothing.
    """
    if crop == "none":
        return picture.resize((side, side), Image.Resampling.BILINEAR)
    shorter = shorter or side
    width, height = picture.size
    if (width, height) == (side, side) == (shorter, shorter):
        return picture
    scale = shorter / min(width, height)
    width, height = max(shorter, round(width * scale)), max(shorter, round(height * scale))
    left, top = (width - side) // 2, (height - side) // 2
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + side, top + side))


def plain_reason(error: BaseException) -> str:
    """A decoder's message, without addresses in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is not that of a picture"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} px, too many for Pillow; shrink it"
    text = re.sub(r"<[^>]* at 0x[0-9a-fA-F]+>", "the file", str(error)).strip()
    return text or type(error).__name__


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False)) and image.tell() == 0
    except Exception:  # damage behind the first frame, which is the one that is shown
        return True


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # viewers show pictures whose EXIF data are damaged as they are
        return 1


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) in _TURNED else image


def _in_eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A picture of any mode as ``L`` or ``RGB``."""
    if image.mode == "I" or image.mode.startswith("I;"):
        return _integers(image)
    if image.mode == "F":
        return _floats(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in ("L", "RGB"):
        return image, []
    if image.mode == "CMYK":
        return _through_profile(image), [CMYK]
    if image.mode == "LAB":
        return _converted(image, ImageCms.createProfile("LAB")), []
    return image.convert("L" if image.mode == "1" else "RGB"), []


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    mode = "L" if is_gray(image) else "RGB"
    layered = _layered(image)
    alpha = layered.getchannel("A")
    plain = layered.convert("RGB").convert(mode)
    if alpha.getextrema()[0] == 255:
        return plain, []
    canvas = Image.new(mode, image.size, "white")
    canvas.paste(plain, mask=alpha)
    return canvas, [TRANSPARENT]


def _layered(image: Image.Image) -> Image.Image:
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _integers(image: Image.Image) -> tuple[Image.Image, list[str]]:
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise DataError(f"its values run from {low} to {high}; save it with 8 or 16 bits")
    if image.mode == "I" and 0 < high <= 255:
        return _gray(values), [BYTES_AS_INTEGERS]
    shown, notes = values >> 8, [SIXTEEN_BITS] if high else []
    if 0 < high <= 4095:
        notes.append(TWELVE_BITS if high > 255 else ALL_BLACK)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int) and (values == hidden).any():
        shown, notes = np.where(values == hidden, 255, shown), [*notes, TRANSPARENT]
    return _gray(shown), notes


def _floats(image: Image.Image) -> tuple[Image.Image, list[str]]:
    values = np.asarray(image)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise DataError(f"its values are floats from {low:.4g} to {high:.4g}; save it with 8 or 16 bits")
    if high > 1:
        return _gray(np.rint(values)), [BYTES_AS_FLOATS]
    return _gray(np.rint(values * 255)), [SHARES] if high else []


def _gray(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def _through_profile(image: Image.Image) -> Image.Image:
    """CMYK as RGB, by the color profile of the file if it has one that can be read."""
    try:
        return _converted(image, io.BytesIO(image.info["icc_profile"]))
    except (KeyError, ImageCms.PyCMSError, OSError, TypeError):
        return image.convert("RGB")


def _converted(image: Image.Image, profile: Any) -> Image.Image:
    made = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None  # only a conversion in place gives none
    return made
