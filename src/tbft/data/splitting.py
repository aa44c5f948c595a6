"""Seeded splits into train, val and test that share no sample, no group and no copy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tbft.data.amounts import Amount, Amounts, SplitBy, ValUse, parse_amount
from tbft.data.drawing import NOTHING, Indices
from tbft.data.folds import draw_folds, is_small
from tbft.data.holding_out import hold_out
from tbft.data.manner import Manner, find_manner
from tbft.data.samples import Samples
from tbft.data.split_notes import check_train, split_notes
from tbft.errors import DataError


@dataclass(frozen=True, eq=False)
class Parts:
    """Disjoint parts of one set, empty where nothing is held out. Nothing that chooses may see `test`.

    Attributes:
        group_by: the attribute no value of which lies in two parts; None: they were drawn sample by sample.
        notes: what was held out and how, and what a reader should know of it.
        folds: the fold of each training sample (n,), where acceptance is cross-fitted for lack of samples to
            hold out, see :func:`tbft.data.folds.draw_folds`; else None.
        manner: the groups, the order and the copies of the training samples, from which other folds are
            drawn; None: to be found by the names of the attributes.
        val_use: what `val` is for.
    """

    train: Samples
    val: Samples
    test: Samples
    seed: int
    group_by: str | None
    notes: tuple[str, ...] = ()
    folds: Indices | None = None
    manner: Manner | None = None
    val_use: ValUse = "acceptance"

    @property
    def judged_count(self) -> int:
        """How many samples decide whether the tuned model is kept."""
        return len(self.val) if self.folds is None else int((self.folds >= 0).sum())

    @property
    def run_count(self) -> int:
        """How often each training sample is tuned on: once, or as often as there are folds."""
        return 1 if self.folds is None else len(np.unique(self.folds[self.folds >= 0]))


def split_samples(
    samples: Samples,
    train: str | float | Amount = "0.1",
    val: str | float | Amount = "0.15",
    test: str | float | Amount = "0.15",
    seed: int = 0,
    group_by: str | None = None,
) -> Parts:
    """Split samples into train, val and test by explicit amounts; the defaults are the paper's.

    Stratified by class: each part has the classes in the proportions of the whole. With `group_by`, no
    group lies in two parts; amounts then are met as closely as whole groups allow, with every class in
    every part where that is possible. Exact copies of one input stay together.

    The test part is drawn first, so for one seed it stays the same whatever the other amounts.

    Args:
        group_by: an attribute; default: one whose name says that it is a group (``subject``, ``patientId``,
            ``camera``, ``session``, ...); ``"none"``: draw sample by sample anyway.

    Raises:
        DataError: the amounts exceed the samples, a part would be empty that should not be, or whole groups
            cannot give train a sample of every class.
    """
    amounts = Amounts(parse_amount(train), parse_amount(val), parse_amount(test))
    return split_by(samples, amounts, SplitBy(seed, group_by, keep_classes=False))


def split_by(samples: Samples, amounts: Amounts, by: SplitBy) -> Parts:
    """Split samples by amounts: at random, by whole groups, or in the order of time.

    Raises:
        DataError: as :func:`split_samples`.
    """
    asked = _asked(amounts)
    manner = find_manner(samples, asked, by)
    drawn = manner.draw(asked)
    for part, indices in drawn.items():
        if len(indices) == 0 and not asked[part].is_nothing:
            raise DataError(f"{samples.name}: the {part} part ({asked[part]}) would be empty; ask for more")
    of_val, folds = manner, None
    if amounts.val is None and is_small(len(drawn["train"]), by.min_val):
        drawn["val"], drawn["train"] = NOTHING, np.sort(drawn["train"])
        folds, of_val = draw_folds(manner.subset(drawn["train"]))
    elif amounts.val is None:
        held_out, of_val = hold_out(manner.subset(drawn["train"]))
        drawn["val"], drawn["train"] = drawn["train"][held_out], np.delete(drawn["train"], held_out)
    if amounts.val is None and amounts.test.is_nothing:
        manner = replace(manner, group_by=of_val.group_by)
    check_train(drawn, manner)
    notes = split_notes(drawn, manner, of_val, folds, by.val_use)
    drawn = {part: np.sort(indices) for part, indices in drawn.items()}
    parts = {part: samples.subset(indices) for part, indices in drawn.items()}
    return Parts(
        **parts,
        seed=by.seed,
        group_by=manner.group_by,
        notes=notes,
        folds=folds,
        manner=manner.subset(drawn["train"]),
        val_use=by.val_use,
    )


def _asked(amounts: Amounts) -> dict[str, Amount]:
    """The amounts in the order in which parts are drawn; the default val part is drawn from train later."""
    if amounts.val is not None and amounts.val.is_rest:
        raise DataError("the val part cannot be the rest; train or test can")
    if amounts.train.is_rest and amounts.test.is_rest:
        raise DataError("train and test cannot both be the rest; give an amount for one of them")
    if amounts.test.first or (amounts.val is not None and amounts.val.first):
        raise DataError("first: is for train; val and test are taken after it")
    val = {} if amounts.val is None else {"val": amounts.val}
    if amounts.test.is_rest:
        return {"train": amounts.train, **val, "test": amounts.test}
    return {"test": amounts.test, **val, "train": amounts.train}
