"""Training, validation and test part from what a user hands over: samples and amounts, or samples alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tbft.data.amounts import Amount, Amounts, SplitBy, is_amount, parse_amount
from tbft.data.copies import count_shared
from tbft.data.forms import as_samples
from tbft.data.input_statistics import input_statistics
from tbft.data.prepared import check_statistics
from tbft.data.samples import Samples, fit_samples, match_classes
from tbft.data.spec import InputSpec
from tbft.data.split_notes import missing_line
from tbft.data.splitting import Parts, split_by
from tbft.errors import DataError, FormError, PlanError, unknown


def as_parts(
    train: Samples,
    val: Any = None,
    test: Any = None,
    *,
    by: SplitBy | None = None,
    as_samples: Callable[[Any], Samples] | None = None,
) -> Parts:
    """The parts of one adaptation; every sample of `train` that is not held out is trained on.

    Args:
        val: decides whether the tuned model is kept. ``None``: a fifth of `train`, at most 500, is held
            out for it; ``0``: nothing; a share (``0.2``), a count (``50``) or ``"10/class"`` taken out of
            `train`; or samples of their own.
        test: only evaluated on. ``None``: no test part; otherwise as `val`.
        by: how they are drawn; default: at random with seed 0, or by groups or in time as attributes tell.
        as_samples: reads `val` and `test` where they are neither amounts nor :class:`Samples`.

    Raises:
        DataError: an amount exceeds what there is, or own samples do not match `train`.
    """
    _check_any(train)
    own = {
        name: _read(part, name, as_samples)
        for name, part in (("val", val), ("test", test))
        if part is not None and not is_amount(part)
    }
    nothing = Amount(count=0)
    amounts = Amounts(
        val=nothing if "val" in own else None if val is None else parse_amount(val),
        test=nothing if test is None or "test" in own else parse_amount(test),
    )
    if amounts.test.is_rest:
        raise DataError("test='rest' needs an amount for train: split the samples with tbft.split_samples")
    return with_own(split_by(train, amounts, by or SplitBy()), own)


def read_parts(spec: InputSpec, train: Any, val: Any, test: Any, by: SplitBy) -> Parts:
    """The parts of one adaptation from data in any form; those of :class:`Parts` are fitted to the model.

    Args:
        spec: what the model takes.

    Raises:
        PlanError: parts that are already split, and a wish how to split them.
        DataError: as in :func:`as_parts`.
    """
    if not isinstance(train, Parts):
        return as_parts(as_samples(train, spec), val, test, by=by, as_samples=partial(as_samples, spec=spec))
    if any(given is not None for given in (val, test, by.group_by, by.order)):
        raise PlanError("these parts are already split: leave out val, test, group_by and order")
    _check_any(train.train)
    fitted, val, test = (fit_samples(part, spec) for part in (train.train, train.val, train.test))
    return replace(train, train=fitted, val=val, test=test)


def _check_any(train: Samples) -> None:
    if len(train) == 0:
        raise DataError(
            f"{train.name}: there are no samples to train on (--train); to evaluate, tbft evaluate"
        )


def with_own(parts: Parts, own: Mapping[str, Samples]) -> Parts:
    """The parts with samples of their own for ``val`` or ``test``, and notes on that and what is missing.

    Raises:
        DataError: own samples of another shape, range or unit, or with other classes, than the training
            samples.
    """
    own = {name: _matched(samples, parts.train, name) for name, samples in own.items()}
    made = replace(parts, val=own.get("val", parts.val), test=own.get("test", parts.test))
    notes = [f"{name}: {len(samples):,} samples of {samples.name}" for name, samples in own.items()]
    for name, samples in own.items():
        if len(samples) and len(parts.train):
            differs = check_statistics(samples, input_statistics(parts.train), "the training samples")
            notes += [f"{name}: {note}" for note in differs]
        if shared := count_shared(samples, parts.train):
            notes.append(
                f"{shared:,} of {len(samples):,} samples in {name} are exact copies of training samples"
            )
    missing = missing_line(made.val, made.test, made.val_use, made.folds is not None)
    return replace(made, notes=(*parts.notes, *notes, *missing))


def _read(given: Any, name: str, as_samples: Callable[[Any], Samples] | None) -> Samples:
    samples = given if isinstance(given, Samples) or as_samples is None else as_samples(given)
    if not isinstance(samples, Samples):
        raise FormError(f"{name}: expected Samples, a share or a count, not {type(given).__name__}")
    return samples


def _matched(samples: Samples, train: Samples, name: str) -> Samples:
    """Samples of their own for a part, with the labels of the training samples."""
    differs = samples.preprocessing.differs_from(train.preprocessing)
    if differs:
        raise DataError(
            f"{name}: {samples.name} is preprocessed differently from the training samples: {differs}"
        )
    if samples.inputs.shape[1:] != train.inputs.shape[1:] or samples.inputs.dtype != train.inputs.dtype:
        shown = [f"{s.inputs.dtype} {'x'.join(map(str, s.inputs.shape[1:]))}" for s in (samples, train)]
        raise DataError(
            f"{name}: {samples.name} holds inputs of {shown[0]}, the training samples are {shown[1]}; "
            "read both with the same options"
        )
    return in_classes(samples, train.class_names, name)


def in_classes(samples: Samples, class_names: tuple[str, ...], name: str) -> Samples:
    """The samples with their labels in the order of the training samples' classes.

    Raises:
        DataError: samples of another class.
    """
    if samples.class_names == class_names:
        return samples
    for own, count in samples.class_counts().items():
        if count and own not in class_names:
            raise DataError(
                f"{name}: {samples.name} has samples of a class that the training samples do not name: "
                f"{unknown('class', own, class_names)}; leave them out, or name all classes in both sets"
            )
    if not set(samples.class_names) <= set(class_names):  # named, but without samples
        present = [c for c in samples.class_names if c in class_names]
        position = {c: present.index(c) for c in present}
        labels = np.array([position.get(samples.class_names[y], 0) for y in samples.labels], dtype=np.int64)
        samples = replace(samples, labels=labels, class_names=tuple(present))
    return match_classes(samples, class_names)
