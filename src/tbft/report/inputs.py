"""What pages are made from: plain values, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        cells: its name and further cells.
        mark: ``chosen`` or ``out``.
        note: shown in small print below the name.
    """

    cells: Sequence[str]
    mark: str = ""
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """A sample picture, the label below it, and an alternative text if that differs from the label."""

    png: bytes
    label: str
    alt: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of sample pictures with one drift, or without drift."""

    caption: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class Adaptation:
    """An adaptation, for its page.

    Attributes:
        result: the values of ``Personalization.to_json()``; ``docs/personalize-json.md`` describes the keys.
        weights: checkpoint of the base as the user named it, for the commands that apply and undo the patch.
        patch_path: where the patch was saved; None if it was not.
        model_bytes: size of the model's tensors.
        strips: rows of sample pictures, without drift (if available) and with it.
        thresholds: name of evidence -> value beyond which it indicates drift.
    """

    result: Mapping[str, Any]
    weights: str | None = None
    patch_path: str | None = None
    model_bytes: int | None = None
    strips: Sequence[Strip] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
