"""The steps in a row: evaluate, tune under a meter, make a patch, evaluate again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tbft.blocks import Blocks
from tbft.cache import CachePolicy
from tbft.data.splitting import Parts
from tbft.energy import Measurement, Meter
from tbft.evaluate import Evaluation, evaluate
from tbft.fitting import EpochRecord, OnStep
from tbft.patch import Patch, make_patch, versions
from tbft.plan import Plan, Recipe, arm_for_level
from tbft.restoring import values_restored
from tbft.tuning import tune


@dataclass(frozen=True, eq=False)
class Personalization:
    """What an adaptation gained and what it cost; all figures come from the same run."""

    plan: Plan
    before: Evaluation  # of the base model on the test part
    after: Evaluation  # of the tuned model on the same samples
    measurement: Measurement  # of tuning, validation included; not of evaluating on the test part
    patch: Patch
    history: tuple[EpochRecord, ...]
    best_epoch: int | None
    interrupted: bool  # Ctrl-C came; what had been learned by then was kept
    tuned_parameters: int  # trainable scalars in the arm
    parts: Parts

    def to_json(self) -> dict[str, Any]:
        """Plain values; the keys are documented in ``docs/personalize-json.md``."""
        header = self.patch.header
        return {
            "model": header.model,
            "data": self.parts.test.name,
            "level": self.plan.level,
            "arm": self.plan.arm,
            "block": header.block,
            "recipe": self.plan.recipe.name,
            "source_share": self.plan.source_share,
            "seed": self.plan.seed,
            "accuracy_before": self.before.accuracy,
            "accuracy_after": self.after.accuracy,
            "loss_before": self.before.loss,
            "loss_after": self.after.loss,
            "class_accuracies_before": self.before.class_accuracies,
            "class_accuracies_after": self.after.class_accuracies,
            **asdict(self.measurement),
            "patch_bytes": len(self.patch.to_bytes()),
            "tensors_changed": len(self.patch.tensors),
            "tuned_parameters": self.tuned_parameters,
            "train_samples": len(self.parts.train),
            "val_samples": len(self.parts.val),
            "test_samples": len(self.parts.test),
            "group_by": self.parts.group_by,
            "best_epoch": self.best_epoch,
            "interrupted": self.interrupted,
            "history": [asdict(record) for record in self.history],
            "base_fingerprint": header.base_fingerprint,
            "tuned_fingerprint": header.tuned_fingerprint,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }


def plan_level(blocks: Blocks, level: str, recipe: Recipe, seed: int = 0) -> Plan:
    """The plan for a level of drift that somebody named.

    With a recipe that refreshes statistics, they follow the target on the input and feature levels;
    on the output level the inputs are as they were, and the statistics stay.
    """
    arm = arm_for_level(level, blocks.names, blocks.head if recipe.head_alone else None)
    share = 0.0 if not recipe.refresh else 1.0 if level == "output" else None
    return Plan(arm=arm, recipe=recipe, level=level, source_share=share, seed=seed)


def personalize(
    blocks: Blocks,
    parts: Parts,
    plan: Plan,
    model_name: str | None = None,
    on_step: OnStep | None = None,
    cache: CachePolicy | None = None,
    resume_path: Path | None = None,
) -> Personalization:
    """Carry out a plan and tell what it gained and cost.

    The model comes back as it was; ``result.patch.apply(model)`` makes it the tuned one. The test
    part is only evaluated on, before and after. For `cache` and `resume_path` see :func:`tune`.
    """
    model = blocks.model
    block = blocks.block_of(plan.arm)
    before = evaluate(model, parts.test)
    with Meter() as meter:
        tuned = tune(
            blocks,
            plan,
            parts.train,
            parts.val,
            cache=cache,
            resume_path=resume_path,
            on_step=on_step,
        )
    base = model.state_dict()
    patch = make_patch(
        base,
        tuned.changed,
        arm=plan.arm,
        block=None if block is None else block.name,
        level=plan.level,
        model=model_name,
        cuts=blocks.cuts,
        recipe={**asdict(plan.recipe), "source_share": tuned.plan.source_share},
        measured={
            **asdict(meter.measurement),
            "val_accuracy": tuned.history[tuned.best_epoch - 1].val_accuracy if tuned.best_epoch else None,
            "train_samples": len(parts.train),
        },
    )
    with values_restored(model):
        patch.apply(model)
        after = evaluate(model, parts.test)
    return Personalization(
        plan=tuned.plan,
        before=before,
        after=after,
        measurement=meter.measurement,
        patch=patch,
        history=tuned.history,
        best_epoch=tuned.best_epoch,
        interrupted=tuned.interrupted,
        tuned_parameters=sum(p.numel() for m in blocks.tuned_modules(plan.arm) for p in m.parameters()),
        parts=parts,
    )
