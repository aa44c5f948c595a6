"""Add classes that the base does not know: the head gets rows for them and keeps its old rows.

Only the new rows are learned, on the features that the frozen rest of the model computes. The old rows are
kept, bit for bit, and so are the logits of old classes, up to rounding. A new class can still attract samples
of an old one. How many is counted on samples of old classes, the user's and those whose features the source
card keeps, each judged by rows that were learned without it; see :mod:`tbft.tuning.new_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from tbft.base import Base
from tbft.data.prepared import prepared
from tbft.data.samples import Samples
from tbft.errors import DataError, PlanError
from tbft.loading import as_base, reader_of
from tbft.metering import Measurement, Meter
from tbft.new_classes.labeling import labeled_parts
from tbft.new_classes.pools import check_old, fold_of_each, kept_in_card, old_is_kept, pool_of, share
from tbft.new_classes.result import NewClasses
from tbft.patches import Patch, make_patch
from tbft.tuning.new_rows import Judged, Pool, Rows, find_offset, judge_in_folds, learn_rows
from tbft.verification.running import predict

#: Minimum accuracy on samples of new classes.
MIN_NEW_ACCURACY = 0.3
#: Number of samples on which the model with the larger head is checked, and minimum share of equal decisions;
#: rounding decides between equal logits.
CHECKED, MIN_EQUAL = 32, 0.9


def add_classes(
    model: Any,
    train: Any,
    *,
    card: Any = None,
    val: Any = None,
    cuts: Sequence[str] | None = None,
    seed: int = 0,
) -> NewClasses:
    """Add classes to a classifier and keep the old ones.

    Args:
        model, train, val: in any form that :func:`tbft.personalize` takes. Samples are matched to the model's
            classes by name, or by number if it does not name them; all others are new. Without `val`, each
            sample is judged by rows that were learned on the others. `train` may be parts of
            :func:`tbft.split_samples`, too.
        card: source card of the base, which keeps features of old classes. Without one, several hundred
            samples of old classes are needed.
        cuts: where to cut a module into blocks.
        seed: random seed for the split and the folds.

    Raises:
        DataError: no samples of new classes, or too few of new or of old ones.
        PlanError: the model's head is not an ``nn.Linear``.
    """
    base = as_base(model, card, cuts, read=reader_of(train))
    head = _head(base)
    if base.card is not None:
        base.card.check(base.model)
    old = base.inputs.class_names or tuple(str(i) for i in range(head.out_features))
    if len(old) != head.out_features:
        raise PlanError(
            f"the model names {len(old)} classes, but its head has {head.out_features} outputs: its "
            "attribute class_names needs one name for each"
        )
    parts, classes = labeled_parts(base, old, train, val, seed)
    with Meter() as meter:
        pool = pool_of(base, head, parts.train, fold_of_each(parts, seed))
        if (kept := kept_in_card(base, head, seed)) is not None:
            pool += kept
        rows, judged = _learned(pool, len(classes))
    found_new = found_old = judged
    if len(parts.val):
        found_new = rows.judge(pool_of(base, head, parts.val, None))
        found_old = judged + found_new
    found_new, found_old = found_new[found_new.pool.is_new], found_old[~found_old.pool.is_new]
    patch = _patch(base, rows, parts.train, meter.measurement)
    few = parts.train.subset(slice(0, CHECKED))
    _check_in_model(base, patch, rows.judge(pool_of(base, head, few, None)), few)
    accepted = share(found_new.correct_after) >= MIN_NEW_ACCURACY and old_is_kept(found_old)
    return NewClasses(
        base=base,
        classes=classes,
        patch=patch if accepted else _patch(base, None, parts.train, meter.measurement),
        new_accuracy=share(found_new.correct_after),
        new_accuracies={
            name: share(found_new[found_new.pool.labels == label].correct_after)
            for label, name in enumerate(classes, head.out_features)
        },
        new_count=len(found_new),
        old_before=share(found_old.correct_before),
        old_after=share(found_old.correct_after),
        old_count=len(found_old),
        own_old_count=int(found_old.pool.own.sum()),
        measurement=meter.measurement,
        notes=tuple(dict.fromkeys((*parts.train.notes, *parts.notes))),
    )


def _learned(pool: Pool, count: int) -> tuple[Rows, Judged]:
    """The rows of new classes, and each sample as rows learned without it judge it."""
    judged = judge_in_folds(pool, count)
    old = judged[~judged.pool.is_new]
    check_old(old)
    offset = find_offset(old)
    return learn_rows(pool, count).lowered(offset), judged.lowered(offset)


def _head(base: Base) -> nn.Linear:
    module = base.model.get_submodule(base.blocks.head_layer)
    name = base.blocks.head_layer or "itself"
    needs = "classes can be added to a head that is a plain nn.Linear with a bias, and that of the model"
    if not isinstance(module, nn.Linear):
        raise PlanError(f"{needs}, {name}, is a {type(module).__name__}: put an nn.Linear in its place")
    if {key for key, _ in module.named_parameters()} - {"bias"} != {"weight"}:
        raise PlanError(
            f"{needs}, {name}, has parametrized weights: remove that first "
            "(torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm)"
        )
    if module.bias is None:
        raise PlanError(
            f"{needs}, {name}, has none: give it one, nn.Parameter(torch.zeros({module.out_features})), and "
            "build the source card again"
        )
    return module


def _check_in_model(base: Base, patch: Patch, judged: Judged, samples: Samples) -> None:
    """Raise PlanError unless the model with the larger head decides as its rows do on the inputs of the head.

    So nothing that follows the head may depend on the number of classes, or change which logit is largest.
    """
    if not patch.tensors:
        return
    wanted = torch.cat([judged.pool.logits, judged.new_logits], dim=1)
    problem = "it returns other classes than the layer alone"
    try:
        with patch.applied(base.model):
            outputs = predict(base.blocks, samples)
        if outputs.shape == wanted.shape and share(outputs.argmax(1) == wanted.argmax(1)) >= MIN_EQUAL:
            return
    except (RuntimeError, DataError) as error:
        problem = str(error).partition("\n")[0]
    raise PlanError(
        f"classes cannot be added to {base.blocks.head_layer}: what follows it in the model depends on their "
        f"number ({problem}); move that before the head, or build the model with more classes"
    )


def _patch(base: Base, rows: Rows | None, samples: Samples, measurement: Measurement) -> Patch:
    """The larger head as a patch; without rows, an empty one."""
    head = _head(base)
    prefix = f"{base.blocks.head_layer}." if base.blocks.head_layer else ""
    changed = {}
    if rows is not None:
        for key, old in (("weight", head.weight), ("bias", head.bias)):
            changed[prefix + key] = torch.cat([old.detach(), getattr(rows, key).to(old)], dim=0)
    return make_patch(
        base.model.state_dict(),
        changed,
        arm=base.blocks.head,
        model=base.name,
        cuts=base.blocks.cuts,
        new_classes=samples.class_names[head.out_features :] if changed else (),
        measured=asdict(measurement),
        preprocessing=prepared(samples),
    )
