"""Decodes the pictures of a set: all at once where they fit into memory, when they are needed where not."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from tbft.data.lazy import LazyRows, as_array, content_hash
from tbft.data.members import FOREIGN, Member, counted, decoders, some
from tbft.data.spec import InputSpec
from tbft.data.viewing import (
    COLOR_TO_GRAY,
    GRAY_TO_COLOR,
    Tally,
    as_viewed,
    is_gray,
    plain_reason,
    resize,
    shown_size,
)
from tbft.errors import DataError

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: Enough of most files to tell the size of the picture.
_HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 26
_MOST_AT_ONCE = 256
#: Sets up to this share of the limit are plain arrays, of which subsets are copies.
_SMALL_SHARE = 8


@dataclass(frozen=True)
class Decoded:
    """Pictures of one size.

    Attributes:
        inputs: ``uint8`` (n, height, width, channels), in memory or decoded when they are indexed.
        kept: positions of those that could be read.
        notes: what was done to them and which were left out, a sentence each.
    """

    inputs: npt.NDArray[Any]
    kept: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def decode(
    members: Sequence[Member], spec: InputSpec, name: str, damaged: Sequence[tuple[str, str]] = ()
) -> Decoded:
    """The pictures in these files, as a viewer shows them, fitted to what the model takes.

    Every picture is decoded once, so that those that are damaged are known now.

    Args:
        spec: its resolution and channels; where it names none, the pictures have to agree on a size, and
            are gray if all of them are.
        name: of the set, for messages.
        damaged: (name, reason) of files that are known to be damaged.

    Raises:
        DataError: pictures that cannot be read, unless ``spec.skip_damaged``; sizes that differ.
    """
    if not members:
        raise DataError(f"{name}: no pictures are left of those asked for")
    decoder = _decoder(members, spec, name)
    bytes_in_all, limit = len(members) * int(np.prod(decoder.shape)), spec.memory_mib << 20
    fits, small = bytes_in_all <= limit, bytes_in_all <= limit // _SMALL_SHARE
    whole = np.empty((len(members) if fits else 0, *decoder.shape), np.uint8)
    seen = _Seen(bad=list(damaged))
    for i, made in enumerate(_progress(replace(decoder, hashes=not small).all(members), members, name)):
        seen.take(i, made, members[i].name)
        if fits and isinstance(made, _Picture):
            whole[len(seen.kept) - 1] = made.pixels
    notes = _on_damage(seen.bad, len(members) + len(damaged), spec, name)
    if not seen.kept:
        raise DataError(f"{name}: none of its pictures can be read: {_shown(seen.bad)}")
    notes = (*seen.tally.sentences(name), *_on_sizes(seen.sizes, decoder), *notes)
    if not fits:
        notes += (
            f"{counted(len(seen.kept), 'picture')} take {bytes_in_all >> 20:,} MiB decoded, more than "
            f"--data-memory {spec.memory_mib}: they are decoded when they are needed",
        )
    inputs = whole[: len(seen.kept)]
    if not small:
        later = _Later(decoder, [members[i] for i in seen.kept])
        hashes = np.array(seen.hashes, dtype=object)
        made_now = inputs if fits else None
        inputs = as_array(LazyRows(later, (len(hashes), *decoder.shape), np.uint8, limit, hashes, made_now))
    return Decoded(inputs, np.array(seen.kept, dtype=np.int64), notes)


@dataclass(frozen=True)
class _Picture:
    pixels: Pixels
    size: Size  # as shown, before it was fitted
    notes: tuple[str, ...]
    hash: bytes


@dataclass
class _Seen:
    """What has been found while pictures were decoded, in order."""

    bad: list[tuple[str, str]]
    kept: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    sizes: Counter[Size] = field(default_factory=Counter)

    def take(self, position: int, made: _Picture | DataError, name: str) -> None:
        """Add a picture, or what is wrong with it."""
        if isinstance(made, DataError):
            self.bad.append((name, str(made)))
            return
        self.tally.add(made.notes, name)
        self.sizes[made.size] += 1
        self.hashes.append(made.hash)
        self.kept.append(position)


@dataclass(frozen=True)
class _Decoder:
    shape: tuple[int, int, int]
    spec: InputSpec
    name: str
    hashes: bool = False  # tell the contents of each picture; splits look for copies

    def all(self, members: Sequence[Member]) -> Iterator[_Picture | DataError]:
        """Decode pictures in as many threads as torch uses, in order, some at a time."""
        workers = min(torch.get_num_threads(), 16)
        step = max(workers, min(_MOST_AT_ONCE, _CHUNK_BYTES // int(np.prod(self.shape))))
        for start in range(0, len(members), step):
            yield from self._some(members[start : start + step], workers)

    def _some(self, members: Sequence[Member], workers: int) -> list[_Picture | DataError]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of what decoders say is in the notes
            if workers == 1:
                return [self.one(member) for member in members]
            with ThreadPoolExecutor(workers) as pool:
                return list(pool.map(self.one, members))

    def one(self, member: Member) -> _Picture | DataError:
        """Decode one picture; what is wrong with it is given and not raised."""
        try:
            blob = member.read(-1)
            if not blob:
                return DataError("it is empty")
            shown, notes = as_viewed(_opened(blob), keep_alpha=self.shape[2] == 4)
        except Exception as error:  # a decoder can raise anything
            return DataError(_reason(error, member))
        if blob.endswith(b"\0" * 64) and shown_as_jpeg(blob):
            return DataError("it ends in zeros, as files do whose copy was interrupted")
        size = shown.size
        pixels, more = self._fitted(shown)
        return _Picture(pixels, size, (*notes, *more), content_hash(pixels) if self.hashes else b"")

    def _fitted(self, picture: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
        height, width, channels = self.shape
        notes: tuple[str, ...] = ()
        if picture.mode != _MODES[channels]:
            notes = (GRAY_TO_COLOR if channels == 3 else COLOR_TO_GRAY,)
            picture = picture.convert(_MODES[channels])
        if self.spec.resolution is not None:
            picture = resize(picture, self.spec.resolution, self.spec.resize, self.spec.crop)
        elif picture.size != (width, height):
            raise DataError(f"{self.name}: a picture has changed its size while it was read")
        return np.asarray(picture, dtype=np.uint8).reshape(self.shape), notes


def shown_as_jpeg(blob: bytes) -> bool:
    """Is this a JPEG file whose picture is not closed by an end marker before the zeros at its end?"""
    return blob.startswith(b"\xff\xd8") and not blob.rstrip(b"\0").endswith(b"\xff\xd9")


def _opened(blob: bytes) -> Image.Image:
    return Image.open(io.BytesIO(blob), formats=decoders())


def _reason(error: BaseException, member: Member) -> str:
    if member.suffix in FOREIGN:
        return f"Pillow does not decode {member.suffix} here; convert it to JPEG or PNG"
    return plain_reason(error)


def _decoder(members: Sequence[Member], spec: InputSpec, name: str) -> _Decoder:
    """Settle the size and channels of all pictures, by what the model takes or by their heads."""
    if spec.channels is not None and spec.channels not in _MODES:
        raise DataError(f"{name}: the model takes {spec.channels} channels; pictures have 1, 3 or 4")
    if spec.resolution is not None and spec.channels is not None:
        return _Decoder((spec.resolution, spec.resolution, spec.channels), spec, name)
    sizes: Counter[Size] = Counter()
    first: dict[Size, str] = {}
    gray = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for member in tqdm(members, f"looking at {name}", unit="", leave=False, disable=None):
            head = _head(member)
            if head is not None:
                gray = gray and is_gray(head)
                size = shown_size(head)
                sizes[size] += 1
                first.setdefault(size, member.name)
    if spec.resolution is None and len(sizes) > 1:
        if not spec.mixed:
            raise DataError(f"{name}: {_mixed(sizes, first)}")
        spec = replace(spec, resolution=min(map(min, sizes)))
    side = spec.resolution
    width, height = (side, side) if side is not None else next(iter(sizes), (1, 1))
    return _Decoder((height, width, spec.channels or (1 if gray else 3)), spec, name)


def _mixed(sizes: Counter[Size], first: dict[Size, str]) -> str:
    told = some(f"{w}x{h} px ({n:,}, {first[w, h]})" for (w, h), n in sizes.most_common())
    return (
        f"pictures of {len(sizes)} sizes: {told}; give the size that the model takes (--resolution 224), and "
        "they are resized and cropped, or --mixed for the smallest of them"
    )


@dataclass(frozen=True)
class _Later:
    """Decodes pictures when they are asked for."""

    decoder: _Decoder
    members: Sequence[Member]

    def __call__(self, rows: npt.NDArray[np.int64]) -> Pixels:
        out = np.empty((len(rows), *self.decoder.shape), np.uint8)
        wanted = [self.members[i] for i in rows]
        for i, made in enumerate(self.decoder.all(wanted)):
            if isinstance(made, DataError):
                where = f"{self.decoder.name}: {wanted[i].name}"
                raise DataError(f"{where} can no longer be read: {made}") from made
            out[i] = made.pixels
        return out


def _head(member: Member) -> Image.Image | None:
    """A picture of which size and mode are known and nothing is decoded; None if it is damaged."""
    for limit in (_HEAD_BYTES, -1):
        try:
            return _opened(member.read(limit))
        except Exception:  # what is damaged is told once it is decoded
            continue
    return None


def _progress(
    made: Iterator[_Picture | DataError], members: Sequence[Member], name: str
) -> Iterator[_Picture | DataError]:
    return iter(tqdm(made, f"reading {name}", len(members), unit="", leave=False, disable=None))


def _on_damage(bad: Sequence[tuple[str, str]], count: int, spec: InputSpec, name: str) -> tuple[str, ...]:
    if not bad:
        return ()
    told = f"{len(bad):,} of {counted(count, 'file')} cannot be read"
    if spec.skip_damaged:
        return (f"{told} and {'was' if len(bad) == 1 else 'were'} left out: {_shown(bad)}",)
    raise DataError(
        f"{name}: {told}: {_shown(bad)}; repair or remove them, or give --skip-damaged to leave them out"
    )


def _shown(bad: Sequence[tuple[str, str]]) -> str:
    return some((f"{name} ({reason})" for name, reason in bad), 5)


def _on_sizes(sizes: Counter[Size], decoder: _Decoder) -> tuple[str, ...]:
    height, width, _ = decoder.shape
    spec = decoder.spec
    other = sorted(size for size in sizes if size != (width, height) or spec.resize not in (None, width))
    if not other:
        return ()
    count = sum(sizes[size] for size in other)
    span = f"{other[0][0]}x{other[0][1]}"
    if len(other) > 1:
        span = f"{len(other)} sizes, {span} to {other[-1][0]}x{other[-1][1]}"
    verb = "was" if count == 1 else "were"
    how = f"the shorter side scaled to {spec.resize or width} px, the center cut out"
    if spec.crop == "none":
        how = "both sides scaled"
    return (f"{counted(count, 'picture')} ({span} px) {verb} fitted to {width}x{height} px: {how}",)
