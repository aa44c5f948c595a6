"""Decodes the pictures of a set: all at once where they fit into memory, otherwise on demand."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from tbft.data.decoder import MODES, Decoder, Picture, Pixels, Size, opened
from tbft.data.lazy import LazyRows, as_array
from tbft.data.members import Member, counted, some
from tbft.data.picture_notes import Tally
from tbft.data.spec import InputSpec
from tbft.data.viewing import is_gray, shown_size
from tbft.errors import DataError

#: Enough of most files to find the size of the picture.
_HEAD_BYTES = 1 << 16
#: Files below this size are decoded just as fast by one thread.
_SMALL_FILE_BYTES = 1 << 13
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
        raise DataError(f"{name}: none of the requested pictures are left")
    decoder = replace(_decoder(members, spec, name), threads=_threads_pay(members[0]))
    bytes_in_all, limit = len(members) * int(np.prod(decoder.shape)), spec.memory_mib << 20
    fits, small = bytes_in_all <= limit, bytes_in_all <= limit // _SMALL_SHARE
    whole = np.empty((len(members) if fits else 0, *decoder.shape), np.uint8)
    seen = _Seen(bad=list(damaged))
    for i, made in enumerate(_progress(replace(decoder, hashes=not small).all(members), members, name)):
        seen.take(i, made, members[i].name)
        if fits and isinstance(made, Picture):
            whole[len(seen.kept) - 1] = made.pixels
    notes = on_damage(seen.bad, len(members) + len(damaged), spec, name)
    if not seen.kept:
        raise DataError(f"{name}: none of its pictures can be read: {_shown(seen.bad)}")
    notes = (*seen.tally.sentences(name), *_on_sizes(seen.sizes, decoder), *notes)
    if not fits:
        notes += (
            f"{counted(len(seen.kept), 'picture')} take {bytes_in_all >> 20:,} MiB decoded, more than "
            f"--data-memory {spec.memory_mib}: they are decoded on demand",
        )
    inputs = whole[: len(seen.kept)]
    if not small:
        later = _Later(decoder, [members[i] for i in seen.kept])
        hashes = np.array(seen.hashes, dtype=object)
        made_now = inputs if fits else None
        inputs = as_array(LazyRows(later, (len(hashes), *decoder.shape), np.uint8, limit, hashes, made_now))
    return Decoded(inputs, np.array(seen.kept, dtype=np.int64), notes)


@dataclass
class _Seen:
    """What has been found while pictures were decoded, in order."""

    bad: list[tuple[str, str]]
    kept: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    sizes: Counter[Size] = field(default_factory=Counter)

    def take(self, position: int, made: Picture | DataError, name: str) -> None:
        """Add a picture, or what is wrong with it."""
        if isinstance(made, DataError):
            self.bad.append((name, str(made)))
            return
        self.tally.add(made.notes, name)
        self.sizes[made.size] += 1
        self.hashes.append(made.hash)
        self.kept.append(position)


def _decoder(members: Sequence[Member], spec: InputSpec, name: str) -> Decoder:
    """Settle the size and channels of all pictures, by what the model takes or by their headers."""
    if spec.channels is not None and spec.channels not in MODES:
        raise DataError(f"{name}: the model takes {spec.channels} channels; pictures have 1, 3 or 4")
    if spec.resolution is not None and spec.channels is not None:
        return Decoder((spec.resolution, spec.resolution, spec.channels), spec, name)
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
    return Decoder((height, width, spec.channels or (1 if gray else 3)), spec, name)


def _mixed(sizes: Counter[Size], first: dict[Size, str]) -> str:
    each = some(f"{w}x{h} px ({n:,}, {first[w, h]})" for (w, h), n in sizes.most_common())
    return (
        f"pictures of {len(sizes)} sizes: {each}; give the size that the model takes (--resolution 224), and "
        "they are resized and cropped, or --mixed for the smallest of them"
    )


@dataclass(frozen=True)
class _Later:
    """Decodes pictures on demand."""

    decoder: Decoder
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


def _threads_pay(member: Member) -> bool:
    """Does decoding such a file take longer than handing it to a thread?"""
    try:
        return len(member.read(_SMALL_FILE_BYTES)) == _SMALL_FILE_BYTES
    except Exception:  # damage is reported when it is decoded
        return False


def _head(member: Member) -> Image.Image | None:
    """A picture with its size and mode, but not decoded; None if it is damaged."""
    for limit in (_HEAD_BYTES, -1):
        try:
            return opened(member.read(limit))
        except Exception:  # damage is reported when it is decoded
            continue
    return None


def _progress(
    made: Iterator[Picture | DataError], members: Sequence[Member], name: str
) -> Iterator[Picture | DataError]:
    return iter(tqdm(made, f"reading {name}", len(members), unit="", leave=False, disable=None))


def on_damage(bad: Sequence[tuple[str, str]], count: int, spec: InputSpec, name: str) -> tuple[str, ...]:
    """A note on files that are left out, or DataError if they must not be."""
    if not bad:
        return ()
    problem = f"{len(bad):,} of {counted(count, 'file')} cannot be read"
    if spec.skip_damaged:
        return (f"{problem} and {'was' if len(bad) == 1 else 'were'} left out: {_shown(bad)}",)
    raise DataError(
        f"{name}: {problem}: {_shown(bad)}; repair or remove them, or give --skip-damaged to leave them out"
    )


def _shown(bad: Sequence[tuple[str, str]]) -> str:
    return some((f"{name} ({reason})" for name, reason in bad), 5)


def _on_sizes(sizes: Counter[Size], decoder: Decoder) -> tuple[str, ...]:
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
