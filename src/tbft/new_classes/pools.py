"""Samples as inputs of the head: the user's, and those whose features the source card keeps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tbft.base import Base
from tbft.data.amounts import SplitBy
from tbft.data.folds import FOLDS, folds_of
from tbft.data.manner import find_manner
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.class_features import unpack
from tbft.diagnosis.observation import observe
from tbft.errors import CardError, DataError, PlanError
from tbft.tuning.new_rows import MAX_OLD_LOSS, RISK, Judged, Pool, max_lost
from tbft.verification.binomial import binomial_cdf


def check_old(old: Judged) -> None:
    """Raise DataError if samples of old classes are too few to bound what these lose."""
    if max_lost(len(old)) >= 0:
        return
    wanted = next(n for n in range(len(old), 1000) if max_lost(n) >= 0)
    from_card = int((~old.pool.own).sum())
    own = len(old) - from_card
    card = f"in the source card {from_card}" if from_card else "no source card that keeps any"
    unnamed = ". A model without an attribute class_names knows its classes by number, not by name"
    raise DataError(
        f"{wanted} samples of classes that the model knows are needed, to show that these lose at most a "
        f"point of accuracy; there are {own}, and {card}: add samples of known classes, or "
        f"build a card from more source samples (tbft card build){'' if own else unnamed}"
    )


def fold_of_each(parts: Parts, seed: int) -> Tensor:
    """The fold of each training sample (n,)."""
    folds = parts.folds
    if folds is None:
        manner = parts.manner or find_manner(parts.train, {}, SplitBy(seed))
        folds = folds_of(manner, FOLDS)
    return torch.from_numpy(np.array(folds))


def pool_of(base: Base, head: nn.Linear, samples: Samples, folds: Tensor | None) -> Pool:
    """Inputs of the head for samples of the user's."""
    features = torch.from_numpy(observe(base.blocks, samples, "float32").features)
    if features.shape[1] != head.in_features:
        raise PlanError(
            f"the head is run on {features.shape[1] // head.in_features} vectors per sample, so classes "
            "cannot be added to it: average before it, not after it"
        )
    labels = torch.from_numpy(np.array(samples.labels))
    folds = torch.full_like(labels, -1) if folds is None else folds
    return Pool(features, labels, _old_logits(head, features), folds, torch.ones(len(labels)).bool())


def kept_in_card(base: Base, head: nn.Linear, seed: int) -> Pool | None:
    """Inputs of the head for the source samples in the card, None without a card that keeps them."""
    kept = unpack(base.card.tensors, head.out_features) if base.card is not None else None
    if kept is None:
        return None
    if kept.features.shape[1] != head.in_features:
        raise CardError("the source card keeps features of another head: build a card for this model")
    count = len(kept.labels)
    folds = torch.from_numpy(np.random.default_rng(seed).permutation(count) % FOLDS)
    logits = _old_logits(head, kept.features)
    return Pool(kept.features, kept.labels, logits, folds, torch.zeros(count).bool())


@torch.no_grad()
def _old_logits(head: nn.Linear, features: Tensor) -> Tensor:
    return nn.functional.linear(features, head.weight.cpu().float(), head.bias.cpu().float())


def share(correct: Tensor) -> float:
    """Share of samples that are correct, 0 to 1."""
    return float(correct.float().mean())


def old_is_kept(old: Judged) -> bool:
    """Whether old classes lose at most `MAX_OLD_LOSS`: all samples show it, and the user's do not deny it."""
    own = old[old.pool.own]
    denied = own.lost and 1 - binomial_cdf(own.lost - 1, len(own), MAX_OLD_LOSS) < RISK / 2
    return old.lost <= max_lost(len(old)) and not denied
