"""Notes on a split: what was held out and how, and what may surprise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tbft.data.amounts import ValUse
from tbft.data.drawing import Drawn, Indices
from tbft.data.manner import Manner
from tbft.data.samples import Samples
from tbft.errors import DataError

#: What a val part is for, and what else it does where there is no test part.
_VAL_USES: Mapping[ValUse, tuple[str, str]] = {
    "acceptance": ("to decide acceptance", ", which also decides acceptance"),
    "epoch": ("to choose the epoch", ", which also chooses the epoch"),
    "evaluation": ("to evaluate on", ""),
}


def missing_line(val: Samples, test: Samples, use: ValUse, cross_fitted: bool = False) -> list[str]:
    """What it means that there is no val or test part."""
    said = []
    if not len(val) and not cross_fitted and use == "acceptance":
        said.append("no val part, so nothing decides whether the tuned model is kept")
    if not len(test):
        where = f"on the val part{_VAL_USES[use][1]}" if len(val) else "on nothing that was held out"
        if cross_fitted:
            where = "on the folds, which also decide acceptance"
        measured = "accuracy" if val.targets is None else "the score"
        said.append(f"no test part, so {measured} is measured {where}")
    return ["; ".join(said)] if said else []


def check_train(drawn: Drawn, manner: Manner) -> None:
    """Raise DataError if groups leave train without a class that another part has."""
    if manner.group_by is None or not len(drawn["train"]):
        return
    used = np.concatenate(list(drawn.values()))
    lacking = np.setdiff1d(manner.labels[used], manner.labels[drawn["train"]])
    if len(lacking):
        raise DataError(
            f"{manner.name}: the train part would have no sample of {_names(manner, lacking)}, because no "
            f"group of {manner.group_by!r} may lie in two parts; ask for other amounts, take parts in time "
            "(--order, --train first:N), or give --group-by none or another attribute"
        )


def split_notes(
    drawn: Drawn, manner: Manner, of_val: Manner, folds: Indices | None, use: ValUse
) -> tuple[str, ...]:
    """What was held out and how, what was assumed, and what may surprise.

    Args:
        of_val: how the val part or the folds were drawn.
        folds: of the training samples; None: there are none.
        use: what the val part is for.
    """
    ways = {"val": (_VAL_USES[use][0], of_val.words), "test": ("to test", manner.words)}
    lines = [_held_out_line(drawn, len(manner), ways)]
    if folds is not None:
        lines.append(_folds_line(folds, of_val))
    assumed = (*manner.notes, *of_val.notes, *_missing(drawn, manner), *_copies(drawn, manner))
    return (*lines, *dict.fromkeys(assumed))


def _held_out_line(drawn: Drawn, total: int, ways: Mapping[str, tuple[str, str]]) -> str:
    """One line on val and test.

    Args:
        total: samples that were split.
        ways: part -> what it is for, and how it was drawn, in words.
    """
    said = [
        f"{len(drawn[part]):,} of {total:,} {use} ({manner})"
        for part, (use, manner) in ways.items()
        if len(drawn[part])
    ]
    return f"held out: {'; '.join(said) or 'nothing'}"


def _folds_line(folds: Indices, manner: Manner) -> str:
    """How acceptance is cross-fitted."""
    judged = folds[folds >= 0]
    ways = manner.at_random
    if manner.ranks is not None:
        ways = f"{manner.order}"
    elif manner.groups is not None:
        ways = f"by {manner.group_by}"
    return (
        f"acceptance is cross-fitted: each of {len(judged):,} samples is judged by a model not tuned on it "
        f"({len(np.unique(judged))} folds, {ways}; --val holds some out instead)"
    )


def _missing(drawn: Drawn, manner: Manner) -> list[str]:
    """Classes that parts lack, and samples that are in no part."""
    present = np.unique(manner.labels)
    because = f", grouped by {manner.group_by} (--group-by none changes that)" if manner.group_by else ""
    notes = [
        f"{part} has no sample of {_names(manner, lacking)}{because}"
        for part, indices in drawn.items()
        if len(indices) and len(lacking := np.setdiff1d(present, manner.labels[indices]))
    ]
    unused = len(manner) - sum(map(len, drawn.values()))
    if unused:
        notes.append(f"{unused:,} of {len(manner):,} samples are in no part")
    return notes


def _copies(drawn: Drawn, manner: Manner) -> list[str]:
    if manner.copies is None:
        return []
    found = manner.copies.clusters
    part_of = np.full(len(manner), -1)
    for number, indices in enumerate(drawn.values()):
        part_of[indices] = number
    across = [c for c in found if len(set(part_of[c].tolist()) - {-1}) > 1]
    count = sum(len(c) - 1 for c in found)
    kept = "copies of one input are in one part"
    if across:
        kept = f"{sum(map(len, across)):,} samples have a copy in another part"
    return [f"{count:,} of {len(manner):,} samples are exact copies of others: {kept}"]


def _names(manner: Manner, labels: Indices) -> str:
    names = [manner.class_names[c] for c in labels[:5].tolist()]
    return ", ".join(names) + (f" and {len(labels) - 5} more classes" if len(labels) > 5 else "")
