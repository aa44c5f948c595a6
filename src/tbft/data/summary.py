"""What was read, in a few lines: samples by class and part, sizes, what was assumed and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tbft.data.columns import groups_of
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.text import visible

#: Maximum number of classes that are all named.
_NAMED = 8
#: Number of samples checked for the range of their values.
_LOOKED_AT = 256


@dataclass(frozen=True)
class Summary:
    """What was read; prints as one block.

    Attributes:
        input_shape: of one sample, as it is stored: pictures as (height, width, channels).
        input_type: of its values.
        value_range: lowest and highest value in up to 256 samples; None for ``uint8``, or without samples.
        class_counts: samples of each class, absent ones included.
        part_counts: the same for each part, or value of an attribute ``part``; empty where there is none.
        is_split: the parts were made here.
        group_by: the attribute no value of which lies in two parts.
        attributes: how many values each has.
        preprocessing: how the model's inputs are made from these, in words.
        notes: what was assumed, what was left out and why, and how parts were made.
    """

    name: str
    sample_count: int
    input_shape: tuple[int, ...]
    input_type: str
    value_range: tuple[float, float] | None
    class_counts: Mapping[str, int]
    part_counts: Mapping[str, Mapping[str, int]]
    group_by: str | None
    attributes: Mapping[str, int]
    preprocessing: str
    notes: tuple[str, ...]
    is_split: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        values["samples"] = values.pop("sample_count")
        return {**values, "input_shape": list(self.input_shape), "notes": list(self.notes)}

    def __str__(self) -> str:
        named = sum(count > 0 for count in self.class_counts.values())
        lines = [
            f"data: {self.name}: {_many(self.sample_count, 'sample')} of {_many(named, 'class', 'classes')}, "
            f"{self._inputs()}"
        ]
        if not self.is_split:
            lines.append(f"  classes: {_in_classes(self.class_counts, total=False)}")
        lines += [f"  {part}: {_in_classes(counts)}" for part, counts in self.part_counts.items()]
        shared = {key: count for key, count in self.attributes.items() if count < self.sample_count}
        shown = [f"{key} ({_many(count, 'value')})" for key, count in shared.items()]
        if own := [key for key in self.attributes if key not in shared and key != "file"]:
            shown.append(f"{_first(own)} (another value for each sample)")
        if shown:
            lines.append(f"  attributes: {', '.join(shown)}")
        if self.preprocessing != "none":
            lines.append(f"  preprocessing: {self.preprocessing}")
        lines += [f"  - {note}" for note in self.notes]
        return "\n".join(visible(line, lines=False) for line in lines)  # names may hold line breaks

    def _inputs(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        if self.value_range is None:
            return f"{self.input_type} {shape}"
        return f"{self.input_type} {shape} in [{self.value_range[0]:.4g}, {self.value_range[1]:.4g}]"


def describe(samples: Samples, parts: Parts | None = None) -> Summary:
    """Summarize samples, and the parts that were made of them."""
    made = {} if parts is None else {"train": parts.train, "val": parts.val, "test": parts.test}
    of_parts = made or _parts_as_read(samples)
    notes = [samples.notes, *(part.notes for part in made.values()), () if parts is None else parts.notes]
    return Summary(
        name=samples.name,
        sample_count=len(samples),
        input_shape=tuple(samples.inputs.shape[1:]),
        input_type=str(samples.inputs.dtype),
        value_range=_range(samples),
        class_counts=samples.class_counts(),
        part_counts={name: part.class_counts() for name, part in of_parts.items()},
        group_by=None if parts is None else parts.group_by,
        attributes={key: len(groups_of(values).names) for key, values in samples.attributes.items()},
        preprocessing=str(samples.preprocessing),
        notes=tuple(dict.fromkeys(note for some in notes for note in some)),
        is_split=parts is not None,
    )


def _parts_as_read(samples: Samples) -> dict[str, Samples]:
    """Parts by the attribute ``part``, if there are several; without inputs, which are not looked at."""
    values = samples.attributes.get("part")
    if values is None or len(np.unique(values)) < 2:
        return {}
    bare = replace(samples, inputs=np.zeros((len(samples), 1), np.uint8), attributes={}, hashes=None)
    return {str(value): bare.subset(np.flatnonzero(values == value)) for value in np.unique(values)}


def _range(samples: Samples) -> tuple[float, float] | None:
    if samples.are_pictures or not len(samples):
        return None
    at = np.unique(np.linspace(0, len(samples) - 1, min(_LOOKED_AT, len(samples))).astype(np.int64))
    values = np.asarray(samples.inputs[at])
    return (float(values.min()), float(values.max())) if values.size else None


def _in_classes(counts: Mapping[str, int], total: bool = True) -> str:
    """Samples in all and in each class; of many classes only the smallest and the largest count."""
    everything = sum(counts.values())
    if not everything:
        return "0"
    each = _each({name: count for name, count in counts.items() if count})
    absent = [name for name, count in counts.items() if not count]
    if absent:
        each += f"; none of {_first(absent)}"
    return f"{everything:,} ({each})" if total else each


def _each(counts: Mapping[str, int]) -> str:
    if len(counts) <= _NAMED:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())
    low, high = min(counts.values()), max(counts.values())
    if low == high:
        return f"{low:,} of each class"
    fewest = _first([name for name, count in counts.items() if count == low])
    return f"{low:,} to {high:,} of each class, fewest of {fewest}"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
