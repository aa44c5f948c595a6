"""The steps in a row: diagnose, choose, tune under a meter, accept or undo, make a patch, evaluate."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms, values_restored
from tbft.choosing.choice import Choice, beyond, check_energy_known, choose, expected_accuracies, options_of
from tbft.choosing.cost import least_bytes, predict_costs
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.levels import diagnose
from tbft.diagnosis.observation import BATCH_SIZE
from tbft.errors import PlanError
from tbft.metering import Measurement, Meter, Profile
from tbft.patches import Patch, make_patch, versions
from tbft.plan import Budget, Plan, Recipe, arm_for_level
from tbft.tuning.execution import Tuned, tune
from tbft.tuning.loop import EpochRecord, OnStep
from tbft.tuning.memory_limit import LEAST_BATCH
from tbft.tuning.prefix_cache import CachePolicy
from tbft.verification.acceptance import Acceptance, compare
from tbft.verification.evaluation import Evaluation, evaluate, predict


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
    choice: Choice | None = None  # why this plan; None if it was given
    acceptance: Acceptance | None = None  # on the held-out val part; None without one
    choosing_cpu_seconds: float = 0.0  # of the measurement, before tuning began

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
            "choice": None if self.choice is None else self.choice.to_json(),
            "acceptance": None if self.acceptance is None else asdict(self.acceptance),
            "history": [asdict(record) for record in self.history],
            "base_fingerprint": header.base_fingerprint,
            "tuned_fingerprint": header.tuned_fingerprint,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }


def plan_level(blocks: Blocks, level: str, recipe: Recipe, seed: int = 0) -> Plan:
    """The plan for a level of drift that somebody named."""
    arm = arm_for_level(level, blocks.names, blocks.head if recipe.head_alone else None)
    return Plan(arm=arm, recipe=recipe, level=level, source_share=recipe.default_share(level), seed=seed)


def choose_plan(
    blocks: Blocks,
    samples: Samples,
    recipe: Recipe,
    card: SourceCard | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    labeled: bool = True,
    val_count: int = 0,
    profile: Profile | None = None,
) -> Choice:
    """Diagnose samples, predict what each option that may help costs on them, and choose.

    What diagnosing and predicting took is taken off the budget that options have to keep to.

    Args:
        samples: of the target; with `labeled`, those that would be tuned on.
        card: source card of the base model; without one the diagnosis is weaker.
        val_count: held-out samples that the tuned model will be judged on.
        profile: of this board, for energy figures.

    Raises:
        CardError, DataError, PlanError: as :func:`diagnose` and :func:`choose`.
    """
    budget, start = budget or Budget(), _clocks()
    diagnosis = diagnose(blocks, samples, card, labeled, _batch(budget))
    options = options_of(blocks.names, blocks.head, bool(batch_norms(blocks.model)))
    hopeful = expected_accuracies(diagnosis, options)
    plans = {o.name: o.plan(recipe, None, seed, budget) for o in options if o.name in hopeful}
    costs = predict_costs(blocks, plans, samples, val_count, profile=profile)
    if budget.peak_bytes is not None:
        for name, plan in plans.items():
            if plan.arm != "none":
                costs[name] = replace(costs[name], least_bytes=least_bytes(blocks, plan, samples))
    left = _rest_of_budget(budget, profile, start)
    choice = choose(diagnosis, options, costs, recipe, left, seed, after_choosing=True)
    return replace(choice, plan=replace(choice.plan, budget=budget))


def personalize(
    blocks: Blocks,
    parts: Parts,
    plan: Plan | Recipe,
    model_name: str | None = None,
    on_step: OnStep | None = None,
    cache: CachePolicy | None = None,
    resume_path: Path | None = None,
    card: SourceCard | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    meter: Meter | None = None,
) -> Personalization:
    """Carry out a plan, or choose one, and tell what it gained and cost.

    The model comes back as it was; ``result.patch.apply(model)`` makes it the tuned one. The test
    part is only evaluated on, before and after. The val part, if there is one and the recipe does not
    choose epochs by it, decides whether the tuned model is kept; undone, the patch is empty.

    Args:
        plan: or only a recipe: then the training part is diagnosed and the plan chosen, at the meter.
        cache, resume_path: see :func:`tune`.
        card, budget, seed: for choosing; see :func:`choose_plan`.
        meter: measures the work from choosing to accepting; by default with the best sensor there is. A
            budget in joules needs one with a profile of this board.
    """
    model, choice = blocks.model, None
    before = evaluate(model, parts.test)
    start = _clocks()
    with meter or Meter() as meter:
        profile = meter.profile
        if isinstance(plan, Recipe):
            choice = choose_plan(
                blocks, parts.train, plan, card, budget, seed, val_count=len(parts.val), profile=profile
            )
            plan = choice.plan
        elif plan.budget.cpu_seconds is not None or plan.budget.joules is not None:
            _check_affordable(blocks, plan, parts, profile)
        choosing_cpu_seconds = time.process_time() - start[1]
        plan = replace(plan, budget=_rest_of_budget(plan.budget, profile, start))
        val = parts.val if plan.recipe.validate else None
        tuned = tune(
            blocks,
            plan,
            parts.train,
            val,
            cache=cache,
            resume_path=resume_path,
            on_step=on_step,
            profile=profile,
        )
        acceptance = None
        if val is None and len(parts.val) and plan.arm != "none":
            acceptance = _accept(blocks, tuned, parts.val, _batch(plan.budget))
    if acceptance is not None and not acceptance.accepted:
        tuned = replace(tuned, changed={})
    block = blocks.block_of(plan.arm)
    patch = make_patch(
        model.state_dict(),
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
        choice=choice,
        acceptance=acceptance,
        choosing_cpu_seconds=choosing_cpu_seconds,
    )


def _check_affordable(blocks: Blocks, plan: Plan, parts: Parts, profile: Profile | None) -> None:
    """Refuse a plan that somebody named if it is predicted to exceed its budget."""
    cost = predict_costs(blocks, {"": plan}, parts.train, len(parts.val), profile=profile)[""]
    check_energy_known([cost], plan.budget)
    if reason := beyond(cost, plan.budget):
        raise PlanError(f"{plan.arm!r} is predicted to take {reason}: allow more, or name a later block")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _rest_of_budget(budget: Budget, profile: Profile | None, start: tuple[float, float]) -> Budget:
    """What is left of a budget after the work since `start`."""
    wall, cpu = (now - then for now, then in zip(_clocks(), start, strict=True))
    spent = None if profile is None else profile.estimate(wall, cpu)
    return replace(
        budget,
        cpu_seconds=None if budget.cpu_seconds is None else max(budget.cpu_seconds - cpu, 1e-3),
        joules=None if budget.joules is None else max(budget.joules - (spent or 0.0), 1e-3),
    )


def _batch(budget: Budget) -> int:
    """Of forward passes besides tuning; where memory is short, as few as training goes down to."""
    return BATCH_SIZE if budget.peak_bytes is None else LEAST_BATCH


def _accept(blocks: Blocks, tuned: Tuned, held_out: Samples, batch_size: int) -> Acceptance:
    """Base and tuned model on samples that neither choosing nor tuning has seen."""
    before = predict(blocks.model, held_out, batch_size).argmax(1).numpy()
    with values_restored(blocks.model), torch.no_grad():
        state = blocks.model.state_dict()
        for key, value in tuned.changed.items():
            state[key].copy_(value)
        after = predict(blocks.model, held_out, batch_size).argmax(1).numpy()
    return compare(held_out.labels, before, after)
