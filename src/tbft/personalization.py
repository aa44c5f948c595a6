"""What a user asks of :func:`tbft.personalize`, and what comes of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tbft.base import Base
from tbft.choosing.choice import Choice
from tbft.data.forms import as_samples
from tbft.data.parts import as_parts
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.levels import INPUT_DISTANCE, Z_SCORE
from tbft.errors import PlanError, wrong_form
from tbft.metering import Measurement
from tbft.patches import Patch, make_patch, versions
from tbft.plan import LEVELS, Budget, Plan, Recipe, Statistics, plan_level, replace_plan
from tbft.tuning.execution import Tuned
from tbft.verification.acceptance import Acceptance
from tbft.verification.comparison import Comparison
from tbft.verification.evaluation import Evaluation

Status = Literal["patched", "unchanged", "rejected", "stopped"]


@dataclass(frozen=True)
class Wish:
    """What was asked for: a level or an arm by name, or ``auto``.

    Raises:
        PlanError: arguments that do not go together; an unknown name.
    """

    base: Base
    level: str = "auto"
    arm: str | None = None
    recipe_given: Recipe | str = "fast"
    statistics: Statistics | float | str | None = None
    seed: int = 0
    budget: Budget | None = None
    plan_given: Plan | None = None

    def __post_init__(self) -> None:
        if self.plan_given is not None:
            self._check_plan_alone()
            return
        if self.arm is not None and self.level != "auto":
            raise PlanError(f"level {self.level!r} and arm {self.arm!r}: give one of the two")
        if self.is_open and self.statistics is not None:
            raise PlanError("a source share goes with a level or an arm; auto chooses its own")
        tracks = self.arm == "adabn" or self.recipe.tracking.refresh
        if self.statistics is not None and not tracks:
            raise PlanError(
                f"a source share is for the arm adabn and recipes that refresh, not for {self.recipe.name!r}"
            )
        if self.is_open and self.recipe.duration.validate:
            raise PlanError(
                f"level auto is for recipes without validation, not for {self.recipe.name!r}: "
                f"name a level ({', '.join(LEVELS)}) or an arm"
            )
        _ = self.named  # a misspelled name is reported before anything is read

    def _check_plan_alone(self) -> None:
        if not isinstance(self.plan_given, Plan):
            raise wrong_form("plan", self.plan_given, ["a Plan"])
        defaults = {
            "level": "auto",
            "arm": None,
            "recipe_given": "fast",
            "statistics": None,
            "seed": 0,
            "budget": None,
        }
        others = [
            name.removesuffix("_given") for name, value in defaults.items() if getattr(self, name) != value
        ]
        if others:
            raise PlanError(f"a plan says all of it: leave out {', '.join(others)}, or put it into the plan")

    @property
    def recipe(self) -> Recipe:
        """In the model's own variant, if it has one."""
        return self.base.recipe(self.recipe_given)

    @property
    def is_open(self) -> bool:
        """Whether the plan is to be chosen."""
        return self.plan_given is None and self.arm is None and self.level == "auto"

    @property
    def settled_budget(self) -> Budget:
        """Of the plan, where one was given."""
        return (self.budget or Budget()) if self.plan_given is None else self.plan_given.budget

    @property
    def named(self) -> Plan | None:
        """The plan that was asked for; None where it is to be chosen."""
        if self.is_open or self.plan_given is not None:
            return self.plan_given
        blocks, recipe = self.base.blocks, self.recipe
        if self.arm is None:
            named = plan_level(self.level, blocks.names, blocks.head, recipe)
        else:
            blocks.block_of(self.arm)
            statistics = 0.0 if self.arm == "adabn" else recipe.default_statistics()
            named = Plan(self.arm, recipe, statistics=statistics)
        statistics = named.statistics if self.statistics is None else Statistics.of(self.statistics)
        return replace_plan(named, statistics=statistics, seed=self.seed, budget=self.settled_budget)


def parts_of(
    base: Base, train: Any, val: Any, test: Any, seed: int, group_by: str | None, loss: Any = None
) -> Parts:
    """The parts of an adaptation, from data of any form; parts that are split already stay as they are."""
    if isinstance(train, Parts):
        if val is not None or test is not None or group_by is not None:
            raise PlanError("these parts are split already: leave out val, test and group_by")
        return train

    spec = base.inputs if loss is None else replace(base.inputs, targets=True)

    def read(data: Any) -> Samples:
        return as_samples(data, spec)

    return as_parts(read(train), val, test, seed=seed, group_by=group_by, as_samples=read)


@dataclass(frozen=True, eq=False)
class Personalization:
    """What an adaptation gained and what it cost; all figures come from the same run.

    Attributes:
        parts: the samples, as they were split.
        tuned: what tuning came to; without its changes where the tuned model was rejected.
        patch: what changed; empty if nothing did, or the tuned model was rejected.
        measurement: of choosing, tuning and deciding; not of `comparison`.
        choosing_cpu_seconds: of the measurement, before tuning began.
        choice: why this plan; None if it was named.
        acceptance: on the held-out val part; None without one.
        comparison: of base and tuned model on the test part, or on the val part that decided where there is
            no test part; None without either.
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
        """Why training ended early, if it did; what had been learned by then was kept."""
        return self.tuned.stopped

    @property
    def before(self) -> Evaluation | None:
        """Figures of the base; None where nothing was held out."""
        return None if self.comparison is None else self.comparison.before

    @property
    def after(self) -> Evaluation | None:
        """Figures of the tuned model; None where nothing was held out."""
        return None if self.comparison is None else self.comparison.after

    @property
    def status(self) -> Status:
        """What came of it.

        ``patched``: the patch holds what was tuned. ``unchanged``: nothing was worth doing. ``rejected``: it
        did not help on the held-out samples and was undone. ``stopped``: it ended before anything was
        learned. A run that was stopped later is ``patched`` or ``rejected``, and :attr:`stopped` says why.
        """
        if self.patch.tensors:
            return "patched"
        if self.acceptance is not None and not self.acceptance.accepted:
            return "rejected"
        return "unchanged" if self.stopped is None else "stopped"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out when the weights and data were read, and what was held out."""
        return tuple(dict.fromkeys((*self.base.notes, *self.parts.train.notes, *self.parts.notes)))

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
            "test_samples": len(self.parts.test),
            "group_by": self.parts.group_by,
            "best_epoch": self.tuned.best_epoch,
            "epochs": None if self.tuned.training is None else self.tuned.training.epochs,
            "choice": None if self.choice is None else self.choice.to_json(),
            "acceptance": None if self.acceptance is None else asdict(self.acceptance),
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
        """Write a page about it (HTML, one file that loads nothing); needs the extra ``report``.

        Args:
            patch_path: where the patch was saved, for the commands that the page shows.
            clean: the samples without the drift that was put on top of them, to be shown above them.

        Raises:
            MissingExtraError: the extra is not installed.
            TbftError: the file cannot be written, or does not end in .html.
        """
        from tbft.report import Adaptation, adaptation_page, write_page
        from tbft.report.strips import strips_of

        base = self.base
        given = Adaptation(
            result=self.to_json(),
            weights=None if base.weights is None else str(base.weights),
            patch_path=None if patch_path is None else str(patch_path),
            model_bytes=base.size_bytes,
            strips=strips_of(self.parts.train, clean),
            thresholds={"distance": INPUT_DISTANCE, "z_score": Z_SCORE},
        )
        write_page(adaptation_page(given), path)


def patch_of(base: Base, tuned: Tuned, measurement: Measurement, train_samples: int) -> Patch:
    """The patch of what tuning changed, with what is known of the run in its header."""
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
        measured={**asdict(measurement), "val_accuracy": val_accuracy, "train_samples": train_samples},
    )
