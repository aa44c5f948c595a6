"""Refuse samples that cannot be used for training, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tbft.data.samples import Samples
from tbft.errors import DataError, PlanError
from tbft.plan.numbers import Training
from tbft.plan.recipe import Recipe


@contextmanager
def explained_batch_norm(count: int) -> Iterator[None]:
    """Turn BatchNorm's error on a batch of one sample into one that names the remedy."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise PlanError(
            f"{count} training samples leave a last batch of one sample, which BatchNorm cannot normalize: "
            "give another --batch-size, or one sample more or less"
        ) from error


def check_training(train: Samples, val: Samples | None, recipe: Recipe, training: Training) -> None:
    """Raise DataError unless these samples can be trained on with this recipe."""
    if training.validate and (val is None or len(val) == 0):
        raise DataError(f"recipe {recipe.name!r} keeps the epoch with the lowest validation loss: give --val")
    if len(train) < training.batch_size:
        raise DataError(
            f"{len(train)} training samples are fewer than a batch of {training.batch_size}; "
            f"give more samples, or --batch-size {max(2, len(train) // 4)} or so"
        )
    if train.targets is None and len(np.unique(train.labels)) < 2:
        only = train.class_names[int(train.labels[0])]
        raise DataError(
            f"all {len(train)} training samples are of the class {only!r}; two or more classes are needed"
        )
