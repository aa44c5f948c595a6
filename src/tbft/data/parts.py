"""Training, validation and test part from what a user hands over: samples and amounts, or samples alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tbft.data.amounts import Amount, is_amount, parse_amount
from tbft.data.samples import Samples, match_classes
from tbft.data.splitting import Parts, held_out, split_samples
from tbft.errors import DataError, unknown

#: Samples that are held out at most to decide acceptance where nobody says how many.
MAX_VAL = 500
#: Their share of the training samples.
VAL_SHARE = 0.2


def as_parts(
    train: Samples,
    val: Any = None,
    test: Any = None,
    *,
    seed: int = 0,
    group_by: str | None = None,
    as_samples: Callable[[Any], Samples] | None = None,
) -> Parts:
    """The parts of one adaptation; every sample of `train` that is not held out is trained on.

    Args:
        val: decides whether the tuned model is kept. ``None``: a fifth of `train`, at most 500, is held
            out for it; ``0``: nothing; a share (``0.2``), a count (``50``) or ``"10/class"`` taken out of
            `train`; or samples of their own.
        test: only evaluated on. ``None``: no test part; otherwise as `val`.
        group_by: see :func:`split_samples`.
        as_samples: reads `val` and `test` where they are neither amounts nor :class:`Samples`.

    Raises:
        DataError: an amount exceeds what there is, or own samples do not match `train`.
    """
    if len(train) == 0:
        raise DataError(f"{train.name}: there are no samples to train on")
    own = {
        name: _own(train, part, name, as_samples)
        for name, part in (("val", val), ("test", test))
        if part is not None and not is_amount(part)
    }
    test_amount = Amount(count=0) if test is None or "test" in own else parse_amount(test)
    if test_amount.is_rest:
        raise DataError('test="rest" needs an amount for train: split the samples with tbft.split_samples')
    val_amount = Amount(count=0) if "val" in own else None if val is None else parse_amount(val)
    parts = _cut(train, val_amount, test_amount, seed, group_by)
    parts = replace(parts, val=own.get("val", parts.val), test=own.get("test", parts.test))
    return replace(parts, notes=_notes(parts, len(train), own))


def _cut(samples: Samples, val: Amount | None, test: Amount, seed: int, group_by: str | None) -> Parts:
    """All of `samples` in parts; None: the default amount of val."""
    if val is not None:
        return split_samples(samples, Amount(), val, test, seed, group_by)
    parts = split_samples(samples, Amount(), 0, test, seed, group_by)
    count = min(MAX_VAL, round(VAL_SHARE * len(parts.train)))
    at = held_out(parts.train, count, seed, parts.group_by)
    rest = np.setdiff1d(np.arange(len(parts.train)), at)
    return replace(parts, train=parts.train.subset(rest), val=parts.train.subset(at))


def _own(train: Samples, given: Any, name: str, as_samples: Callable[[Any], Samples] | None) -> Samples:
    """Samples of their own for a part, with the labels of the training samples."""
    samples = given if isinstance(given, Samples) or as_samples is None else as_samples(given)
    if not isinstance(samples, Samples):
        raise DataError(f"{name}: expected Samples, a share or a count, not {type(given).__name__}")
    if samples.inputs.shape[1:] != train.inputs.shape[1:] or samples.inputs.dtype != train.inputs.dtype:
        shown = [f"{s.inputs.dtype} {'x'.join(map(str, s.inputs.shape[1:]))}" for s in (samples, train)]
        raise DataError(
            f"{name}: {samples.name} holds inputs of {shown[0]}, the training samples are {shown[1]}; "
            "read both with the same options"
        )
    return _same_classes(samples, train.class_names, name)


def _same_classes(samples: Samples, class_names: tuple[str, ...], name: str) -> Samples:
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


def _notes(parts: Parts, count: int, own: dict[str, Samples]) -> tuple[str, ...]:
    """What was held out and how, in one line."""
    how = "at random, stratified by class" if parts.group_by is None else f"by {parts.group_by}"
    said = []
    for name, part, use in (("val", parts.val, "to decide acceptance"), ("test", parts.test, "for testing")):
        if name in own:
            said.append(f"{len(part):,} of {part.name} {use}")
        elif len(part):
            said.append(f"{len(part):,} of {count:,} {use} ({how})")
    if not len(parts.val):
        said.append("nothing to decide acceptance")
    if not len(parts.test):
        where = "on the samples that decide acceptance" if len(parts.val) else "nowhere"
        said.append(f"no test part, so accuracy is measured {where}")
    return (f"held out: {'; '.join(said)}",)
