"""What pages are made from: plain values, so that nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """A row of a table: its name, then its cells, and what it is marked as (``chosen``, ``out``)."""

    cells: Sequence[str]
    mark: str = ""


@dataclass(frozen=True)
class Shown:
    """A sample picture, what is written below it, and what it shows if that is not the same."""

    png: bytes
    label: str
    alt: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of sample pictures: one drift, or none."""

    caption: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class Adaptation:
    """One adaptation, for its page.

    Attributes:
        result: as ``Personalization.to_json()`` gives it; the keys are in ``docs/personalize-json.md``.
        weights: checkpoint of the base, as the user named it; for the commands that apply and undo.
        patch_path: where the patch was written; None if there is none.
        model_bytes: of the whole model's tensors.
        strips: sample pictures without drift, if they can be had, and as the model met them.
        thresholds: of evidence, by name, beyond which it speaks for drift.
    """

    result: Mapping[str, Any]
    weights: str | None = None
    patch_path: str | None = None
    model_bytes: int | None = None
    strips: Sequence[Strip] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
