"""What a user says of a split: how much each part gets, and how samples are assigned to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np

from tbft.errors import DataError

#: What a val part is for: to decide acceptance, to choose the epoch, or only to evaluate on.
ValUse = Literal["acceptance", "epoch", "evaluation"]


@dataclass(frozen=True)
class Amount:
    """How many samples a part gets: a fraction of all, a count, a count per class, or (all None) the rest.

    Attributes:
        first: the first ones in the order of time.
    """

    fraction: float | None = None
    count: int | None = None
    per_class: int | None = None
    first: bool = False

    @property
    def is_rest(self) -> bool:
        return self == Amount()

    @property
    def is_nothing(self) -> bool:
        return 0 in (self.fraction, self.count, self.per_class)

    def of(self, total: int, class_count: int = 1) -> int:
        """The number of samples requested, out of `total` samples in `class_count` classes."""
        if self.per_class is not None:
            return self.per_class * class_count
        return (
            self.count
            if self.count is not None
            else total
            if self.is_rest
            else round((self.fraction or 0.0) * total)
        )

    def __str__(self) -> str:
        if self.is_rest:
            return "rest"
        size = self.fraction if self.fraction is not None else self.count
        shown = f"{self.per_class}/class" if size is None else f"{size:g}"
        return f"first:{shown}" if self.first else shown


@dataclass(frozen=True)
class Amounts:
    """How much each part gets. `val`: None holds out a fifth of train, at most 500 samples."""

    train: Amount = field(default_factory=Amount)
    val: Amount | None = None
    test: Amount = field(default_factory=lambda: Amount(count=0))


@dataclass(frozen=True)
class SplitBy:
    """How samples are assigned to parts.

    Attributes:
        group_by: an attribute; ``"none"``; None: one whose name says that it is a group, if any.
        order: attributes joined by commas, by which train gets the first samples of each class and test the
            last; ``"file"``: the order of the set; ``"none"``: at random; None: found by name where that is
            needed, for amounts such as ``first:20%`` and for windows of which only the time is known.
        keep_classes: no other part takes the last sample of a class from train.
        min_val: a default val part of fewer samples is not held out; folds of train are drawn instead.
        val_use: what the val part is for; affects nothing but notes.
    """

    seed: int = 0
    group_by: str | None = None
    order: str | None = None
    keep_classes: bool = True
    min_val: int = 0
    val_use: ValUse = "acceptance"

    def __post_init__(self) -> None:
        seed: object = self.seed
        if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
            raise DataError(f"the seed is a whole number of at least 0 and below 2**63, not {seed!r}")


def parse_amount(text: str | float | Amount) -> Amount:
    """Read ``0.1`` or ``10%`` (a tenth), ``500`` (samples), ``10/class``, ``first:10%`` or ``rest``.

    >>> parse_amount("0.1").fraction, parse_amount(500).count, parse_amount("first:10/class")
    (0.1, 500, Amount(fraction=None, count=None, per_class=10, first=True))
    """
    if isinstance(text, Amount):
        return text
    written = str(text).strip()
    if written == "rest":
        return Amount()
    if written.startswith("first:") and not (amount := parse_amount(written[6:])).is_rest:
        return replace(amount, first=True)
    if match := re.fullmatch(r"(\d{1,18})/class", written):
        return Amount(per_class=int(match[1]))
    if re.fullmatch(r"\d{1,18}", written):
        return Amount(count=int(written))
    try:
        fraction = float(written[:-1]) / 100 if written.endswith("%") else float(written)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise DataError(
            f"{written[:60]!r} is not a valid amount: write 0.1 or 10% (a tenth), 500 (samples), 10/class, "
            "first:10% (in order of time) or rest"
        )
    return Amount(fraction=fraction)


def is_amount(value: Any) -> bool:
    """Whether a value says how many samples, rather than which; text only if it reads as an amount.

    >>> is_amount(0.2), is_amount("10/class"), is_amount("photos/"), is_amount(True)
    (True, True, False, False)
    """
    if isinstance(value, (bool, np.bool_)):
        return False
    if not isinstance(value, str):
        return isinstance(value, (int, float, np.integer, np.floating, Amount))
    try:
        parse_amount(value)
    except DataError:
        return False
    return True
