"""Try options on the user's own labels: tune on some folds, and count what is right on the others.

What can be measured is measured, as far as the allowance for choosing goes. Options are tried in the order
given, so that the cheap ones come first; an option that is clearly worse than the best one so far is given up
after its first fold.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.blocks import Blocks
from tbft.blocks.solvable import linear_head
from tbft.blocks.tensors import State
from tbft.choosing.cost import Cost
from tbft.choosing.label_forecast import Seen
from tbft.choosing.trials import (
    SOLVED_FOLDS,
    STRENGTHS,
    Bools,
    Labels,
    Trial,
    Trials,
    strengths_of,
)
from tbft.data.amounts import SplitBy
from tbft.data.folds import folds_of
from tbft.data.manner import Manner, find_manner
from tbft.data.origin import origin_of
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.errors import PlanError, TbftError
from tbft.plan import FOLLOW, Budget, Plan, find_recipe, replace_plan
from tbft.tuning.closed_form import Floats, Prototypes, features_of, head_weights, solve
from tbft.tuning.execution import blended, tune_samples
from tbft.tuning.options import Tuning
from tbft.verification.comparison import changed_to
from tbft.verification.running import predict

MIN_FOLDS, MAX_FOLDS = 2, 3
#: Standard errors by which an option has to be worse than the best so far to be given up.
GIVEN_UP = 2.0


@dataclass(frozen=True)
class Trying:
    """How options are tried.

    Attributes:
        card: source card, whose prototypes are a prior for heads in closed form.
        cpu_seconds: processor time that may be spent.
        batch_size: batch size of forward passes; smaller ones take less memory.
        manner: the groups and the order of the samples; None: found by the names of the attributes.
    """

    card: SourceCard | None = None
    cpu_seconds: float = float("inf")
    batch_size: int = 64
    manner: Manner | None = None


def prototypes_of(card: SourceCard | None) -> Prototypes | None:
    """The prototypes of the source; None if the card has none."""
    if card is None or "classes/mean" not in card.tensors:
        return None
    return Prototypes(card.array("classes/mean").astype(float), card.array("classes/spread").astype(float))


def run_trials(
    blocks: Blocks,
    samples: Samples,
    plans: Mapping[str, Plan],
    costs: Mapping[str, Cost],
    how: Trying,
) -> Trials:
    """Try options in order, as long as their predicted costs fit into what is left of the allowance.

    Args:
        plans, costs: option -> plan and its predicted cost, in the order of trial.
    """
    per_class = np.bincount(samples.labels)
    if np.count_nonzero(per_class) < 2 or per_class.max() < MIN_FOLDS:
        return Trials()  # nothing can be held out
    run = _Run(blocks, samples, how)
    for option, plan in plans.items():
        seconds = costs[option].cpu_seconds
        if plan.arm.name == "none" or (seconds > run.left() and not run.is_shared(plan)):
            continue
        with suppress(TbftError):  # it cannot be carried out on some fold, as a class is missing there
            run.add(option, _alone(plan), seconds)
    return Trials(tuple(run.trials), run.spent(), run.fold_count, run.seen)


def _alone(plan: Plan) -> Plan:
    """The plan at full strength, without a clock of its own."""
    return replace_plan(plan, recipe=plan.recipe.replace(strength=1.0), budget=Budget(plan.budget.peak_bytes))


def trial_folds(samples: Samples, manner: Manner | None = None) -> tuple[Labels, Labels]:
    """The fold of each sample, twice (n,): for options that are trained, and for heads in closed form."""
    manner, per_class = manner or find_manner(samples, {}, SplitBy()), int(np.bincount(samples.labels).max())
    few, many = (folds_of(manner, min(n, per_class), in_order=True) for n in (MAX_FOLDS, SOLVED_FOLDS))
    return few, many


class _Run:
    """The trials so far, and what they share: the base's predictions and the features before its head."""

    def __init__(self, blocks: Blocks, samples: Samples, how: Trying) -> None:
        self._start, self._allowed, self.batch_size = time.process_time(), how.cpu_seconds, how.batch_size
        self.blocks, self.samples = blocks, samples
        self.how = Tuning(prototypes=prototypes_of(how.card))
        self.folds, self.solved_folds = trial_folds(samples, how.manner)
        self.fold_count = int(self.folds.max()) + 1
        self.trials: list[Trial] = []
        self.origin = origin_of(samples, how.manner)
        self.head = linear_head(blocks)  # None: no head in closed form
        self._features: dict[bool, tuple[Floats, Floats]] = {}

    @property
    def base_correct(self) -> Bools:
        """Whether the base is right on each sample; not computed unless something is tried."""
        return _is_correct(self._features_of(False)[1], self.samples.labels)

    def spent(self) -> float:
        """Processor seconds since the start."""
        return time.process_time() - self._start

    def left(self) -> float:
        """Processor seconds left of the allowance."""
        return self._allowed - self.spent()

    @property
    def seen(self) -> Seen | None:
        """Features and logits with the source's statistics; None if no head was solved for."""
        found = self._features.get(False)
        return Seen(*found) if found and self.head is not None else None

    def is_shared(self, plan: Plan) -> bool:
        """Whether the features that the option needs are there already."""
        return not plan.arm.trains and plan.statistics.adapts in self._features

    def add(self, option: str, plan: Plan, fold_seconds: float) -> None:
        """Try an option, at each strength; a trained one on as many folds as the allowance has time for."""
        self.trials += (
            self._trained(option, plan, fold_seconds) if plan.arm.trains else self._solved(option, plan)
        )

    def _solved(self, option: str, plan: Plan) -> list[Trial]:
        """AdaBN, or a head in closed form, on features that are computed once."""
        adapts, labels = plan.statistics.adapts, self.samples.labels
        features, base = self._features_of(adapts)
        rows, logits = np.flatnonzero(self.solved_folds >= 0), base.copy()
        if plan.arm.solves:
            if self.head is None:
                raise PlanError("this head cannot be solved for")
            own = head_weights(self.head)
            for fold in range(self.solved_folds.max() + 1):
                held_out = self.solved_folds == fold
                rest = features[~held_out], labels[~held_out]
                solved = solve(plan.arm.name, *rest, own, self.how.prototypes)
                logits[held_out] = solved.head(features[held_out])
        found, right = [], self.base_correct[rows]
        for strength in strengths_of(plan.arm, adapts):
            correct = _is_correct(base + strength * (logits - base), labels)[rows]
            found.append(Trial(option, strength, rows, correct, right, self.origin))
        return found

    def _features_of(self, adapts: bool) -> tuple[Floats, Floats]:
        """The inputs of the head, if it can be solved for, and the logits, with or without AdaBN."""
        if adapts not in self._features:
            adabn = Plan("adabn", find_recipe("fast"), statistics=FOLLOW)
            changed = tune_samples(self.blocks, adabn, self.samples).changed if adapts else {}
            with changed_to(self.blocks.model, changed):
                self._features[adapts] = self._features_now()
        return self._features[adapts]

    def _features_now(self) -> tuple[Floats, Floats]:
        if self.head is not None:
            try:
                found = features_of(self.head, self.blocks, self.samples, self.batch_size)
                return found[0], found[1].double().numpy()
            except PlanError:  # it is not called once with a vector
                self.head = None
        logits = predict(self.blocks, self.samples, self.batch_size)
        return np.zeros((len(logits), 0)), logits.double().numpy()

    def _trained(self, option: str, plan: Plan, fold_seconds: float) -> list[Trial]:
        best = max((trial.gain for trial in self.trials), default=0.0)
        parts: list[Labels] = []
        correct: dict[float, list[Bools]] = {strength: [] for strength in STRENGTHS}
        for fold in range(self.fold_count):
            held_out = np.flatnonzero(self.folds == fold)
            rest = self.samples.subset(np.flatnonzero(self.folds != fold))
            changed = tune_samples(self.blocks, plan, rest, how=self.how).changed
            base = self.blocks.model.state_dict()
            parts.append(held_out)
            for strength in correct:
                state = blended(base, changed, strength)
                correct[strength].append(self._correct(state, self.samples.subset(held_out)))
            rows = np.concatenate(parts)
            shared = self.base_correct[rows], self.origin
            trials = [Trial(option, s, rows, np.concatenate(right), *shared) for s, right in correct.items()]
            clearly_worse = all(trial.gain + GIVEN_UP * trial.noise < best for trial in trials)
            if clearly_worse or fold_seconds > self.left():
                break
        return trials

    def _correct(self, changed: State, samples: Samples) -> Bools:
        with changed_to(self.blocks.model, changed):
            return _is_correct(predict(self.blocks, samples, self.batch_size).numpy(), samples.labels)


def _is_correct(logits: npt.NDArray[Any], labels: Labels) -> Bools:
    return np.asarray(logits.argmax(1) == labels)
