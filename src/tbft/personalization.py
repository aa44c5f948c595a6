"""The result of :func:`tbft.personalize`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tbft.base import Base
from tbft.blocks.solvable import class_count
from tbft.choosing.choice import Choice
from tbft.data.prepared import prepared
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.rules import INPUT_DISTANCE, Z_SCORE
from tbft.metering import Measurement
from tbft.models.checkpoints import BASES
from tbft.patches import Patch, make_patch, versions
from tbft.plan import Budget, Plan, Spending
from tbft.tuning.execution import Tuned
from tbft.verification.acceptance import Acceptance
from tbft.verification.comparison import Comparison
from tbft.verification.evaluation import Evaluation

Status = Literal["patched", "unchanged", "rejected", "stopped"]


@dataclass(frozen=True, eq=False)
class Personalization:
    """What an adaptation gained and what it cost; all figures come from the same run.

    Attributes:
        parts: the samples as they were split.
        tuned: the result of tuning; without changes if the tuned model was rejected.
        patch: the tensors that changed; empty if nothing changed, or the tuned model was rejected.
        measurement: time, memory and energy of choosing, tuning and deciding, without `comparison`.
        choosing_cpu_seconds: the part of the processor time that was spent before tuning.
        choice: why this plan was chosen; None if it was named.
        acceptance: the decision on the held-out val part; None without one.
        comparison: evaluation of base and tuned model on the test part, or on the val part (which decided) if
            there is no test part; None without either.
    """

    base: Base
    parts: Parts
    tuned: Tuned
    patch: Patch
    measurement: Measurement
    choosing_cpu_seconds: float
    choice: Choice | None = None
    acceptance: Acceptance | None = None
    comparison: Comparison | None = None

    @property
    def plan(self) -> Plan:
        """The plan that was carried out."""
        return self.tuned.plan

    @property
    def stopped(self) -> Literal["budget", "interrupt"] | None:
        """Why training ended early; None if it did not. What had been learned by then was kept."""
        return self.tuned.stopped

    @property
    def before(self) -> Evaluation | None:
        """Evaluation of the base model; None if nothing was held out."""
        return None if self.comparison is None else self.comparison.before

    @property
    def after(self) -> Evaluation | None:
        """Evaluation of the tuned model; None if nothing was held out."""
        return None if self.comparison is None else self.comparison.after

    @property
    def status(self) -> Status:
        """The outcome in one word.

        ``patched``: the patch holds what was tuned. ``unchanged``: nothing was worth doing. ``rejected``:
        tuning did not help on the held-out samples and was undone. ``stopped``: it ended before anything
        was learned. A run that was stopped later is ``patched`` or ``rejected``, and :attr:`stopped` says
        why.
        """
        if self.patch.tensors:
            return "patched"
        if self.acceptance is not None and not self.acceptance.accepted:
            return "rejected"
        return "unchanged" if self.stopped is None else "stopped"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, left out, held out or shortened."""
        read = (*self.base.notes, *self.parts.train.notes, *self.parts.notes)
        own = (*self._unlabeled, *self._unjudged, *_shortened(self.tuned), *self._exceeded)
        return tuple(dict.fromkeys((*read, *own)))

    @property
    def _unlabeled(self) -> tuple[str, ...]:
        """What it means that some classes of the model have no labels."""
        train = self.parts.train
        known = class_count(self.base.blocks) or len(train.class_names)
        absent = known - len(np.unique(train.labels))
        if train.targets is not None or absent < 1 or not self.patch.tensors:
            return ()
        return (
            f"{absent} of the model's {known} classes have no labels here: tuning does not train against "
            "them, but how well they are still recognized was not measured; label some if they occur",
        )

    @property
    def _unjudged(self) -> tuple[str, ...]:
        parts, changed = self.parts, self.acceptance is not None or self.patch.tensors
        if changed or parts.val_use != "acceptance" or not parts.judged_count:
            return ()
        return ("nothing was tuned, so there was nothing to accept or reject",)

    @property
    def _exceeded(self) -> tuple[str, ...]:
        budget, measured = self.plan.budget, self.measurement
        spent = Spending(measured.cpu_seconds, measured.energy_joules or 0.0)
        if not spent.exceeds(budget):
            return ()
        chosen = Spending(self.choosing_cpu_seconds).in_words(Budget(cpu_seconds=1.0))
        return (
            f"the budget of {budget.in_words} was exceeded: the run took {spent.in_words(budget)}; before "
            f"tuning, {chosen} were spent on choosing",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; the keys are documented in ``docs/personalize-json.md``."""
        header, before, after = self.patch.header, self.before, self.after
        return {
            "status": self.status,
            "stopped": self.stopped,
            "model": header.model,
            "data": self.parts.train.name,
            "level": self.plan.level,
            "arm": self.plan.arm.name,
            "block": header.block,
            "recipe": self.plan.recipe.name,
            "source_share": self.plan.statistics.to_json(),
            "seed": self.plan.seed,
            "measure": "accuracy" if self.parts.train.targets is None else "score",
            "measured_on": None if self.comparison is None else self.comparison.part,
            "accuracy_before": None if before is None else before.accuracy,
            "accuracy_after": None if after is None else after.accuracy,
            "score_before": None if before is None else before.score,
            "score_after": None if after is None else after.score,
            "loss_before": None if before is None else before.loss,
            "loss_after": None if after is None else after.loss,
            "class_accuracies_before": {} if before is None else before.class_accuracies,
            "class_accuracies_after": {} if after is None else after.class_accuracies,
            **asdict(self.measurement),
            "model_bytes": self.base.size_bytes,
            "patch_bytes": len(self.patch.to_bytes()),
            "tensors_changed": len(self.patch.tensors),
            "tuned_parameters": self.tuned.parameter_count,
            "train_samples": len(self.parts.train),
            "val_samples": len(self.parts.val),
            "val_use": self.parts.val_use,
            "test_samples": len(self.parts.test),
            "group_by": self.parts.group_by,
            "best_epoch": self.tuned.best_epoch,
            "epochs": None if self.tuned.training is None else self.tuned.training.epochs,
            "choice": None if self.choice is None else self.choice.to_json(),
            "acceptance": None if self.acceptance is None else self.acceptance.to_json(),
            "history": [asdict(record) for record in self.tuned.history],
            "base_fingerprint": header.base_fingerprint,
            "tuned_fingerprint": header.tuned_fingerprint,
            "notes": list(self.notes),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def __str__(self) -> str:
        from tbft.report.terminal import summary

        return summary(self.to_json())

    def save_report(
        self, path: str | Path, patch_path: str | Path | None = None, clean: Samples | None = None
    ) -> None:
        """Write an HTML report, one file that loads nothing else; it needs the extra ``report``.

        Args:
            patch_path: where the patch was saved, for the commands shown in the report.
            clean: the samples without the drift that was applied to them, shown for comparison.

        Raises:
            MissingExtraError: the extra is not installed.
            TbftError: the file cannot be written, or does not end in .html.
        """
        from tbft.report import Adaptation, adaptation_page, write_page
        from tbft.report.strips import strips_of

        base = self.base
        adaptation = Adaptation(
            result=self.to_json(),
            weights=_weights_name(base),
            patch_path=None if patch_path is None else str(patch_path),
            model_bytes=base.size_bytes,
            strips=strips_of(self.parts.train, clean),
            thresholds={"distance": INPUT_DISTANCE, "z_score": Z_SCORE},
        )
        write_page(adaptation_page(adaptation), path)


def _weights_name(base: Base) -> str | None:
    """What names the base weights on the command line: their file, or the preset that they ship with."""
    if base.weights is None:
        return None
    return base.weights.stem if base.weights.parent == BASES else str(base.weights)


def patch_of(base: Base, tuned: Tuned, measurement: Measurement, train: Samples) -> Patch:
    """The patch with what tuning changed, and a description of the run in its header."""
    plan, block = tuned.plan, base.blocks.block_of(tuned.plan.arm)
    val_accuracy = tuned.history[tuned.best_epoch - 1].val_accuracy if tuned.best_epoch else None
    return make_patch(
        base.model.state_dict(),
        tuned.changed,
        arm=plan.arm.name,
        block=None if block is None else block.name,
        level=plan.level,
        model=base.name,
        cuts=base.blocks.cuts,
        recipe={**plan.recipe.to_json(), "source_share": plan.statistics.to_json()},
        measured={**asdict(measurement), "val_accuracy": val_accuracy, "train_samples": len(train)},
        preprocessing=prepared(train),
    )


def _shortened(tuned: Tuned) -> tuple[str, ...]:
    length = tuned.plan.recipe.duration.length
    if tuned.training is None or length == 1:
        return ()
    why = "to fit into the budget" if tuned.plan.budget.is_timed else "as the recipe says"
    return (f"training was planned for {100 * length:.0f} % of the usual steps, {why}",)
