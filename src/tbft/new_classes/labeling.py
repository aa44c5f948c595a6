"""Samples for adding classes: labeled by the model's classes, and then by those that are new to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tbft.base import Base
from tbft.data.amounts import SplitBy
from tbft.data.forms import as_samples
from tbft.data.parts import as_parts, in_classes
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.errors import DataError

#: Minimum number of samples of a new class to learn from.
MIN_NEW_SAMPLES = 4


def labeled_parts(
    base: Base, old: tuple[str, ...], train: Any, val: Any, seed: int
) -> tuple[Parts, tuple[str, ...]]:
    """Samples to learn from and to judge by, labeled by the `old` classes and then by the new ones; these.

    Raises:
        DataError: no samples of new classes, or too few of one.
    """
    inputs = replace(base.inputs, class_names=None)
    samples = base.checked(train.train if isinstance(train, Parts) else as_samples(train, inputs))
    classes = _new_among(samples, old)

    def labeled(data: Any) -> Samples:
        return in_classes(as_samples(data, inputs), (*old, *classes), "val")

    if isinstance(train, Parts):
        parts = replace(train, train=labeled(samples), val=labeled(train.val))
    else:
        own_val = labeled(val) if isinstance(val, Samples) else val
        # Without a val part, every sample is judged by rows that were learned on the others.
        by = SplitBy(seed, min_val=len(samples))
        parts = as_parts(labeled(samples), own_val, by=by, as_samples=labeled)
    _check_counts(parts, classes, len(old))
    notes = (*parts.notes, *_test_note(parts), *_unnamed_note(base, old, classes))
    return replace(parts, notes=notes), classes


def _new_among(samples: Samples, old: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes that the samples have, but the model does not."""
    used = (samples.class_names[i] for i in np.unique(samples.labels))
    new = tuple(name for name in used if name not in old)
    if not new:
        raise DataError(f"{samples.name}: the model knows all of its classes; use tbft.personalize")
    return new


def _unnamed_note(base: Base, old: tuple[str, ...], classes: tuple[str, ...]) -> tuple[str, ...]:
    """What it means for named classes that the model does not name its own."""
    if base.inputs.class_names or all(name.isdecimal() for name in classes):
        return ()
    return (
        f"the model does not name its classes ({old[0]} to {old[-1]}), so {', '.join(classes)} count as new: "
        "if it knows any of them, give it an attribute class_names",
    )


def _test_note(parts: Parts) -> tuple[str, ...]:
    count = len(parts.test)
    return (f"{count:,} samples were held out for a test, and are not used here",) if count else ()


def _check_counts(parts: Parts, classes: tuple[str, ...], first: int) -> None:
    """Raise DataError unless there are samples of each new class to learn from and to judge by."""
    for label, name in enumerate(classes, first):
        learned, judged = ((part.labels == label).sum() for part in (parts.train, parts.val))
        if len(parts.val) and not judged:
            raise DataError(f"there are no samples of {name!r} held out, which decide: give more, or val=")
        if learned < MIN_NEW_SAMPLES:
            raise DataError(
                f"there are too few samples of {name!r} to learn from: give {MIN_NEW_SAMPLES} or more"
            )
