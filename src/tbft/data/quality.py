"""What may be wrong with a set: copies, contradicting labels, lookalikes, classes without samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.copies import clusters, first_copies
from tbft.data.samples import Samples

#: Maximum ratio of the largest class to the smallest.
MAX_IMBALANCE = 10
#: Names of problems with samples, in singular and plural.
_WORDS = {
    "contradictions": ("exact copy with another label", "exact copies with other labels"),
    "leaks": ("sample is an exact copy of one in another part", "samples are exact copies across parts"),
    "copies": ("sample is an exact copy", "samples are exact copies of others"),
    "lookalikes": ("picture looks almost like another", "pictures look almost like others"),
}
#: Number of sets of samples that are named.
_SHOWN = 5
#: Minimum side of pictures whose outlines are compared.
_MIN_SIDE = 16
#: Bits of 64 by which two outlines may differ.
_MAX_BITS = 4
#: If more pictures than this have a quarter of the outline in common, they are not compared in pairs.
_MAX_BUCKET = 64

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """Something that may be wrong.

    Attributes:
        kind: ``damaged``, ``contradictions``, ``leaks``, ``copies``, ``lookalikes``, ``absent``, ``single``
            or ``imbalance``.
        count: samples, or classes, that it concerns.
        text: what it is.
        examples: names of samples, those that belong together in one list.
    """

    kind: str
    count: int
    text: str
    examples: list[list[str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        sign = " ~ " if self.kind == "lookalikes" else " = "
        more = "".join(f"\n    {sign.join(names)}" for names in self.examples)
        return f"  - {self.text}{more}"


def find_problems(samples: Samples) -> list[Problem]:
    """What may be wrong with samples, the worst first. Looks at every input once."""
    copies = first_copies(samples)
    repeated = clusters(copies)
    contradicting = [c for c in repeated if len(np.unique(samples.labels[c])) > 1]
    agreeing = [c for c in repeated if len(np.unique(samples.labels[c])) == 1]
    parts = samples.attributes.get("part", np.zeros(len(samples)))
    leaking = [c for c in agreeing if len(np.unique(parts[c])) > 1]
    found = [
        _of_samples(samples, "contradictions", contradicting),
        _of_samples(samples, "leaks", leaking),
        _of_samples(samples, "copies", [c for c in agreeing if len(np.unique(parts[c])) == 1]),
        _of_samples(samples, "lookalikes", _lookalikes(samples, copies)),
        *_of_classes(samples),
    ]
    return [problem for problem in found if problem is not None]


def _of_samples(samples: Samples, kind: str, sets: Sequence[Indices]) -> Problem | None:
    count = sum(len(s) - 1 for s in sets)
    if not count:
        return None
    examples = [[_name(samples, i) for i in s[:_SHOWN].tolist()] for s in sets[:_SHOWN]]
    shown = f", the first {_SHOWN} sets:" if len(sets) > _SHOWN else ":"
    return Problem(kind, count, f"{count:,} {_WORDS[kind][count > 1]}{shown}", examples)


def _name(samples: Samples, i: int) -> str:
    label = samples.class_names[samples.labels[i]]
    if "file" in samples.attributes:
        return f"{samples.attributes['file'][i]}"
    return f"sample {samples.ids[i]} ({label})"


def _of_classes(samples: Samples) -> Iterator[Problem]:
    counts = samples.class_counts()
    for kind, limit, text in (("absent", 0, "without samples"), ("single", 1, "with a single sample")):
        names = [name for name, count in counts.items() if count == limit]
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            what = "class" if len(names) == 1 else "classes"
            yield Problem(kind, len(names), f"{len(names):,} {what} {text}: {shown}")
    present = {name: count for name, count in counts.items() if count}
    least, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
    if present[most] > MAX_IMBALANCE * present[least]:
        text = f"classes are uneven: {present[most]:,} samples of {most}, {present[least]:,} of {least}"
        yield Problem("imbalance", 1, text)


def _lookalikes(samples: Samples, copies: Indices) -> list[Indices]:
    """Pairs of pictures with almost the same outline that are not copies of each other."""
    if not samples.are_pictures or min(samples.inputs.shape[1:3]) < _MIN_SIDE:
        return []
    outlines = np.array([_outline(np.asarray(x)) for x in _rows(samples)], dtype=np.uint64)
    pairs = set()
    for quarter in range(4):
        part = (outlines >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
        for members in clusters(part.astype(np.int64)):
            if len(members) <= _MAX_BUCKET:
                pairs |= set(_near(outlines, members))
    apart = sorted((a, b) for a, b in pairs if copies[a] != copies[b])
    return [np.array(pair) for pair in apart]


def _rows(samples: Samples) -> Iterator[Any]:
    for start in range(0, len(samples), 256):
        yield from samples.inputs[start : start + 256]


def _outline(picture: npt.NDArray[Any]) -> int:
    """64 bits: which of the 8 x 9 cells of a picture are brighter than their right neighbors.

    0 where there is hardly any structure, since all flat pictures look alike.
    """
    gray = picture.astype(np.float32).mean(-1)
    rows, columns = (np.linspace(0, n, k + 1).astype(int) for n, k in zip(gray.shape, (8, 9), strict=True))
    cells = np.add.reduceat(np.add.reduceat(gray, rows[:-1], 0), columns[:-1], 1)
    area = np.outer(np.diff(rows), np.diff(columns))
    steps = np.diff(cells / area, axis=1)
    if np.median(np.abs(steps)) < 2:
        return 0
    return int(np.packbits(steps > 0).view(">u8")[0])


def _near(outlines: npt.NDArray[np.uint64], members: Indices) -> Iterator[tuple[int, int]]:
    own = outlines[members]
    bits = np.unpackbits((own[:, None] ^ own[None, :]).view(np.uint8).reshape(len(own), -1, 8), axis=2)
    differ = bits.sum(2)
    for a, b in zip(*np.nonzero(np.triu(differ <= _MAX_BITS, 1)), strict=True):
        if own[a] and own[b]:
            yield int(members[a]), int(members[b])
