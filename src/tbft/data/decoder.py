"""Decodes files to pictures of one size and kind, in order, in threads where that pays."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tbft.data.damage import file_damage
from tbft.data.file_kinds import FOREIGN, decoders
from tbft.data.lazy import content_hash
from tbft.data.members import Member
from tbft.data.picture_notes import COLOR_TO_GRAY, GRAY_TO_COLOR
from tbft.data.spec import InputSpec
from tbft.data.viewing import as_viewed, plain_reason, resize
from tbft.errors import DataError

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

#: Channels of a model -> Pillow's mode.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: The beginning of files that Git LFS puts in the place of large ones.
_LFS = b"version https://git-lfs."
_CHUNK_BYTES = 1 << 26
_MOST_AT_ONCE = 256
_MOST_THREADS = 16


@dataclass(frozen=True)
class Picture:
    """One decoded picture.

    Attributes:
        pixels: ``uint8`` (height, width, channels).
        size: (width, height) in px as shown, before it was fitted.
        notes: what was done to it, in the words of :mod:`tbft.data.viewing`.
        hash: of its contents; empty if not requested.
    """

    pixels: Pixels
    size: Size
    notes: tuple[str, ...]
    hash: bytes


@dataclass(frozen=True)
class Decoder:
    """Makes pictures of one shape of files.

    Attributes:
        shape: height, width, channels.
        spec: what the model takes.
        name: of the set, for messages.
        threads: decode in as many threads as torch uses.
        hashes: hash the contents of each picture; splits look for copies.
    """

    shape: tuple[int, int, int]
    spec: InputSpec
    name: str
    threads: bool = False
    hashes: bool = False

    def all(self, members: Sequence[Member]) -> Iterator[Picture | DataError]:
        """Decode pictures in order, some at a time; for a damaged one, say what is wrong with it."""
        workers = min(torch.get_num_threads(), _MOST_THREADS) if self.threads else 1
        step = max(workers, min(_MOST_AT_ONCE, _CHUNK_BYTES // int(np.prod(self.shape))))
        for start in range(0, len(members), step):
            yield from self._some(members[start : start + step], workers)

    def _some(self, members: Sequence[Member], workers: int) -> list[Picture | DataError]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters in the warnings of decoders is in the notes
            if workers == 1:
                return [self.one(member) for member in members]
            with ThreadPoolExecutor(workers) as pool:
                return list(pool.map(self.one, members))

    def one(self, member: Member) -> Picture | DataError:
        """Decode one picture; what is wrong with it is returned, not raised."""
        try:
            blob = member.read(-1)
            if not blob:
                return DataError("it is empty")
            if blob.startswith(_LFS):
                return DataError("it stands for a file of Git LFS: git lfs pull")
            shown, notes = as_viewed(opened(blob), keep_alpha=self.shape[2] == 4)
            if damage := file_damage(blob):
                return DataError(damage)
            pixels, more = self._fitted(shown)
        except Exception as error:  # a decoder can raise anything
            return DataError(_reason(error, member))
        return Picture(pixels, shown.size, (*notes, *more), content_hash(pixels) if self.hashes else b"")

    def _fitted(self, picture: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
        height, width, channels = self.shape
        notes: tuple[str, ...] = ()
        if picture.mode != MODES[channels]:
            notes = (GRAY_TO_COLOR if channels == 3 else COLOR_TO_GRAY,)
            picture = picture.convert(MODES[channels])
        if self.spec.resolution is not None:
            picture = resize(picture, self.spec.resolution, self.spec.resize, self.spec.crop)
        elif picture.size != (width, height):
            raise DataError(
                f"it is shown at {picture.width}x{picture.height} px, which its header does not say"
            )
        return np.asarray(picture, dtype=np.uint8).reshape(self.shape), notes


def opened(blob: bytes) -> Image.Image:
    """A picture of which the header is read, by its content."""
    return Image.open(io.BytesIO(blob), formats=decoders())


def _reason(error: BaseException, member: Member) -> str:
    if member.suffix in FOREIGN:
        return f"Pillow does not decode {member.suffix} here; convert it to JPEG or PNG"
    return plain_reason(error)
