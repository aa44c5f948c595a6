"""What the page is made from: plain values, so that nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tbft.report.inputs import Strip


@dataclass(frozen=True)
class Figure:
    """A mean over runs: a share, half the width of its interval, and of how many runs it is."""

    share: float
    half_width: float | None = None
    runs: int | None = None


@dataclass(frozen=True)
class Grid:
    """Shares by row and column, such as sizes and methods, or corruptions and methods."""

    rows: Sequence[str]
    columns: Sequence[str]
    cells: Mapping[tuple[str, str], Figure]

    def best(self, row: str, among: Sequence[str] | None = None) -> str | None:
        """The column with the largest share in a row; None where the row is empty."""
        known = [c for c in (among or self.columns) if (row, c) in self.cells]
        return max(known, key=lambda c: self.cells[row, c].share, default=None)


@dataclass(frozen=True)
class Effort:
    """What a method reached and took, on average, with one recipe and at one training size."""

    method: str
    recipe: str
    cpu_seconds: float
    share: float


@dataclass(frozen=True)
class Results:
    """One experiment with one recipe and one base model.

    Attributes:
        quick: a small version, whose figures are not the paper's.
        accuracy: by training size and method.
        time_shares: method -> processor time over that of full, mean over sizes.
        published: the same, as the paper printed it; None where it did not.
        detail: by drift and method at one size; None where there is one drift only.
        detail_size: that size.
        data: what it was run on.
        partial: the training sizes whose means lack some of the experiment's drifts.
    """

    recipe: str
    model: str
    data: str
    quick: bool
    accuracy: Grid
    time_shares: Mapping[str, float] = field(default_factory=dict)
    published: Grid | None = None
    detail: Grid | None = None
    detail_size: str | None = None
    partial: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper, as far as there are records of it.

    Attributes:
        name: as ``python -m paper run`` takes it.
        right: the method that the paper finds best; None where there is not one.
        results: one for each recipe; none: there are no records.
        effort: accuracy and processor time of every method and recipe, at `effort_size`.
    """

    name: str
    title: str
    right: str | None = None
    results: Sequence[Results] = ()
    effort: Sequence[Effort] = ()
    effort_size: str | None = None


@dataclass(frozen=True)
class Noise:
    """The motivation: noise on one block (columns), tuning of each block (rows)."""

    ours: Grid | None
    published: Grid
    quick: bool = False
    recipe: str = "paper"


@dataclass(frozen=True)
class CostWay:
    """What one way of tuning takes, a number a column.

    Attributes:
        way: such as truly frozen, or the paper's own.
        seconds: of processor time.
        savings: against full fine-tuning in the same way, shares; None for full itself.
        joules: None: no figure; `energy_kind` says how they came about.
    """

    way: str
    seconds: Sequence[float | None]
    savings: Sequence[float | None]
    joules: Sequence[float | None] | None = None
    energy_kind: str = "unavailable"


@dataclass(frozen=True)
class CostTable:
    """A system-cost table: one model and one amount of work, by block and way."""

    title: str
    columns: Sequence[str]
    ways: Sequence[CostWay]


@dataclass(frozen=True)
class Claim:
    """A claim, checked on records.

    Attributes:
        published: the number that the paper prints, with its unit; None: the claim is not the paper's.
        ours: the number from the records, or which are missing.
        holds: None where records are missing.
        records: how many it rests on.
    """

    claim: str
    published: str | None
    ours: str
    holds: bool | None
    records: int


@dataclass(frozen=True)
class Reproduction:
    """Everything that the page of the reproduced paper shows.

    Attributes:
        method: how it was measured: names and values, such as machine and versions.
        warnings: about the records: dirty trees, several versions; sentences.
        strips: sample pictures of each drift; empty: the section is left out.
    """

    claims: Sequence[Claim]
    experiments: Sequence[Experiment]
    noise: Noise
    costs: Sequence[CostTable] = ()
    method: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    strips: Sequence[Strip] = ()
