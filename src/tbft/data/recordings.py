"""Recordings as series: ``.wav`` files of uncompressed samples, all of one rate and one length."""

from __future__ import annotations

import io
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tbft.data.decoding import Decoded, on_damage
from tbft.data.lazy import LazyRows, as_array, content_hash
from tbft.data.members import Member, counted, some
from tbft.data.spec import InputSpec
from tbft.errors import DataError

Series = npt.NDArray[np.float32]

_CONVERT = "convert it: ffmpeg -i in -c:a pcm_s16le out.wav"


@dataclass(frozen=True)
class _Kind:
    """What recordings have to agree on: samples per second, and channels."""

    rate: int
    channels: int

    def __str__(self) -> str:
        return f"{self.rate:,} Hz with {counted(self.channels, 'channel')}"


def decode_recordings(
    members: Sequence[Member], spec: InputSpec, name: str, damaged: Sequence[tuple[str, str]] = ()
) -> Decoded:
    """Recordings as ``float32`` (n, channels, time) in [-1, 1), as common libraries give them.

    Args:
        spec: its `mixed` pads shorter recordings with silence to the length of the longest.
        name: of the set, for messages.
        damaged: (name, reason) of files that are known to be damaged.

    Raises:
        DataError: recordings that cannot be read, unless ``spec.skip_damaged``; of different rates, channels
            or lengths; or a model that takes pictures.
    """
    if spec.resolution is not None:
        raise DataError(f"{name}: the model takes pictures, and these are recordings; make pictures of them")
    bad, kept, hashes, kinds = list(damaged), [], [], []
    lengths: list[int] = []
    for i, member in enumerate(tqdm(members, f"reading {name}", unit="", leave=False, disable=None)):
        try:
            series, kind = _read(member)
        except DataError as error:
            bad.append((member.name, str(error)))
            continue
        kept.append(i)
        kinds.append(kind)
        lengths.append(series.shape[1])
        hashes.append(content_hash(series))
    notes = on_damage(bad, len(members) + len(damaged), spec, name)
    if not kept:
        raise DataError(f"{name}: none of its recordings can be read: {some(f'{n} ({r})' for n, r in bad)}")
    chosen = [members[i] for i in kept]
    _check_kinds(kinds, chosen, name)
    longest = max(lengths)
    if padded := sum(length < longest for length in lengths):
        if not spec.mixed:
            raise DataError(f"{name}: {_of_lengths(lengths, chosen)}")
        notes += (f"{counted(padded, 'recording')} padded with silence to {longest:,} samples",)
    shape = (len(kept), kinds[0].channels, longest)
    later = _Later(chosen, shape, name)
    said = (f"recordings of {kinds[0]}, {longest / kinds[0].rate:.4g} s, are series in [-1, 1]", *notes)
    limit = spec.memory_mib << 20
    if 4 * int(np.prod(shape)) <= limit:
        inputs: Series = later(np.arange(len(kept)))
    else:
        said += (
            f"{counted(len(kept), 'recording')} take {4 * int(np.prod(shape)) >> 20:,} MiB, more than "
            f"--data-memory {spec.memory_mib}: they are read on demand",
        )
        rows = LazyRows(later, shape, np.float32, limit, np.array(hashes, dtype=object))
        inputs = as_array(rows)
    return Decoded(inputs, np.array(kept, dtype=np.int64), said)


@dataclass(frozen=True)
class _Later:
    """Reads recordings on demand."""

    members: Sequence[Member]
    shape: tuple[int, ...]
    name: str

    def __call__(self, rows: npt.NDArray[np.int64]) -> Series:
        out = np.zeros((len(rows), *self.shape[1:]), np.float32)
        for place, i in zip(out, rows, strict=True):
            try:
                series = _read(self.members[i])[0]
            except DataError as error:
                where = f"{self.name}: {self.members[i].name}"
                raise DataError(f"{where} can no longer be read: {error}") from error
            place[:, : series.shape[1]] = series
        return out


def _read(member: Member) -> tuple[Series, _Kind]:
    """(channels, time) in [-1, 1).

    Raises:
        DataError: it is damaged, or of a kind that is not read.
    """
    if member.suffix not in (".wav", ".wave"):
        raise DataError(f"{member.suffix} is not read; {_CONVERT}")
    try:
        with wave.open(io.BytesIO(member.read(-1))) as file:
            kind = _Kind(file.getframerate(), file.getnchannels())
            width, count = file.getsampwidth(), file.getnframes()
            raw = file.readframes(count)
    except Exception as error:  # a damaged file can raise almost anything
        if "unknown format" in str(error) or "unknown extended format" in str(error):
            raise DataError(f"it is compressed, or holds floats; {_CONVERT}") from error
        raise DataError(f"it is damaged, or not a .wav: {error or 'it is cut off'}") from error
    if len(raw) != count * width * kind.channels:
        raise DataError(f"it is cut off: it has {len(raw):,} bytes of {count * width * kind.channels:,}")
    if not count or not kind.rate:
        raise DataError("it has no samples")
    return np.ascontiguousarray(_values(raw, width).reshape(-1, kind.channels).T), kind


def _values(raw: bytes, width: int) -> Series:
    """Samples of 1 byte, which have no sign, or of 2, 3 or 4 bytes, as shares of the full scale."""
    kind = {1: "u1", 2: "<i2", 3: "u1", 4: "<i4"}[width]
    values = np.frombuffer(raw, kind)
    if width == 3:  # as the upper bytes of four
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = values.reshape(-1, 3)
        values = padded.view("<i4")[:, 0]
    middle, scale = (128, 128) if width == 1 else (0, 2 ** (8 * values.itemsize - 1))
    return (values.astype(np.float32) - np.float32(middle)) / np.float32(scale)


def _check_kinds(kinds: Sequence[_Kind], members: Sequence[Member], name: str) -> None:
    counts = Counter(kinds)
    if len(counts) > 1:
        each = some(f"{k} ({n:,}, {members[kinds.index(k)].name})" for k, n in counts.most_common())
        kind = counts.most_common(1)[0][0]
        raise DataError(
            f"{name}: recordings of {len(counts)} kinds: {each}; make them one, for example "
            f"ffmpeg -i in.wav -ar {kind.rate} -ac {kind.channels} out.wav"
        )


def _of_lengths(lengths: Sequence[int], members: Sequence[Member]) -> str:
    counts = Counter(lengths)
    each = some(f"{n:,} samples ({k:,}, {members[lengths.index(n)].name})" for n, k in counts.most_common())
    return (
        f"recordings of {len(counts)} lengths: {each}; cut them to one length, or give --mixed to pad them "
        "with silence to the longest"
    )
