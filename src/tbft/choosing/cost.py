"""What an arm costs before it runs: processor seconds, energy, bytes, floating-point operations.

An adaptation is written down as a :class:`tbft.choosing.workload.Job`: how many samples go through which
pieces of the model, and how often. Seconds follow from what each piece takes on this machine now, see
``timing.py``; operations and activations are counted on the real step, see ``counting.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from tbft.blocks import Blocks, cut_before, stages_for
from tbft.blocks.state import batch_norms
from tbft.blocks.tensors import state_bytes
from tbft.choosing.counting import StepCount, count_forward, count_step, stage_flops
from tbft.choosing.timing import LEAST_SECONDS, Pace, calibrate
from tbft.choosing.workload import Job, job_of
from tbft.data.samples import Samples
from tbft.errors import BudgetError
from tbft.metering.profile import Profile
from tbft.plan import Budget, Plan, Recipe
from tbft.tuning.execution import tune
from tbft.tuning.memory_limit import LEAST_BATCH
from tbft.tuning.prefix_cache import BATCH
from tbft.verification.evaluation import BATCH_SIZE as EVALUATED

#: Pieces are timed on no larger batch than this; time a sample changes little from there on.
MOST_BATCH = 128
#: Of a patch: its header, and each tensor's name, type, shape and place.
PATCH_BYTES, TENSOR_BYTES = 1500, 75


@dataclass(frozen=True)
class Cost:
    """What carrying out a plan is predicted to take.

    Attributes:
        flops: floating-point operations of the whole job, multiplications and additions apart; None: not
            counted.
        cpu_seconds: processor seconds of this machine, judging on held-out samples included.
        patch_bytes: of the patch's file.
        least_bytes: tensors and cache with which it can be done at all; None: not looked at.
        energy_joules: None where no profile of this board allows an estimate.
        wall_seconds: with as many threads as torch uses, if nothing else runs.
        cache_bytes: of the prefix's outputs, in ``float32``.
        peak_bytes: of tensors and cache at the peak, without a budget; None: not counted.
        step: one training step, counted; None: not counted, or there is none.
    """

    flops: float | None
    cpu_seconds: float
    patch_bytes: int
    least_bytes: int | None = None
    energy_joules: float | None = None
    wall_seconds: float = 0.0
    cache_bytes: int = 0
    peak_bytes: int | None = None
    step: StepCount | None = None


def predict_costs(
    blocks: Blocks,
    plans: Mapping[str, Plan],
    samples: Samples,
    val_count: int = 0,
    *,
    count: int | None = None,
    profile: Profile | None = None,
    least_seconds: float = LEAST_SECONDS,
    counted: bool = False,
) -> dict[str, Cost]:
    """The cost of each plan, without running it.

    Args:
        plans: name -> plan; they share a recipe and a budget.
        samples: like those that would be tuned on.
        val_count: held-out samples, that recipes validate by or the tuned model is judged on.
        count: how many would be tuned on; None: as many as are given.
        profile: of this board; without one there is no energy figure.
        least_seconds: of timing a piece; see :func:`tbft.choosing.timing.calibrate`.
        counted: also count operations, and the bytes that a step keeps.
    """
    count = len(samples) if count is None else count
    stages = stages_for(blocks, [plan.arm for plan in plans.values()])
    jobs = {name: job_of(blocks, stages, plan, count, val_count) for name, plan in plans.items()}
    pieces = {piece for job in jobs.values() for piece in job.work}
    nothing = Cost(0.0, 0.0, 0, energy_joules=None if profile is None else 0.0)
    if not pieces:
        return dict.fromkeys(plans, nothing)
    plan = next(iter(plans.values()))
    recipe = plan.recipe.for_samples(count)
    batch = min(-(-count // recipe.steps_per_epoch(count)), MOST_BATCH)
    if plan.budget.peak_bytes is not None:
        batch = min(batch, LEAST_BATCH)
    pace = calibrate(stages, pieces, samples, plan.recipe, batch, least_seconds)
    forward = stage_flops(stages, samples.batch(slice(0, 1))[0]) if counted else None
    return {
        name: _cost(blocks, plans[name], job, pace, count, samples, forward, profile) if job.work else nothing
        for name, job in jobs.items()
    }


def _cost(
    blocks: Blocks,
    plan: Plan,
    job: Job,
    pace: Pace,
    count: int,
    samples: Samples,
    forward_flops: list[int] | None,
    profile: Profile | None,
) -> Cost:
    seconds = pace.of(job.work)
    cache = 4 * count * pace.scalars[job.start] if plan.recipe.cache and job.start and job.steps else 0
    cost = Cost(
        flops=None,
        cpu_seconds=seconds,
        patch_bytes=patch_bytes(blocks, plan),
        energy_joules=None if profile is None else profile.estimate(seconds * pace.wall_share, seconds),
        wall_seconds=seconds * pace.wall_share,
        cache_bytes=cache,
    )
    if forward_flops is None:
        return cost
    flops = sum(
        n * forward_flops[k] for (kind, k), n in job.passes.items() if kind in ("cache", "adapt", "judge")
    )
    recipe, state = plan.recipe.for_samples(count), state_bytes(blocks.model.state_dict())
    batch = min(count, recipe.batch_size)
    # What runs forward alone does so in larger batches than steps.
    passing = max(BATCH, EVALUATED if recipe.validate else 0)
    if not job.steps:  # AdaBN deals even batches
        passing = -(-count // plan.recipe.steps_per_epoch(count))
    forward = count_forward(blocks.model, recipe.precision, samples, min(count, passing), plan.adapts)
    if not job.steps:
        return replace(cost, flops=float(flops), peak_bytes=max(forward + state, 2 * state))
    step = count_step(blocks, plan, samples, batch)
    flops += job.samples * (step.forward_flops + step.backward_flops) + job.steps * step.optimizer_flops
    finer, at = cut_before(blocks, plan.arm)
    part = finer.onward(at) if recipe.cache else blocks.model
    # All the while there is the model as it was; in steps, the part after the epoch before; after them, that,
    # its successor and the model as it has become.
    own = state_bytes(part.state_dict())
    peak = state + max(step.peak_bytes + own, forward, 2 * own + state)
    return replace(cost, flops=float(flops), step=step, peak_bytes=peak + cache)


def plans_of(blocks: Blocks, recipe: Recipe) -> dict[str, Plan]:
    """Every arm of a model with the statistics that it would mostly be tuned with."""
    head = [] if blocks.head in blocks.names else [blocks.head]
    share = recipe.default_share()
    arms = [*blocks.names, *head, "full"]
    plans = {arm: Plan(arm, recipe, source_share=share) for arm in arms}
    if batch_norms(blocks.model):
        plans = {"adabn": Plan("adabn", recipe, source_share=share), **plans}
    return plans


def least_bytes(blocks: Blocks, plan: Plan, samples: Samples) -> int:
    """Tensors and cache with which a plan can be carried out at all, by asking for less than that."""
    try:
        tune(blocks, replace(plan, budget=Budget(peak_bytes=1)), samples)
    except BudgetError as error:
        return error.needed_bytes
    return 0


def patch_bytes(blocks: Blocks, plan: Plan) -> int:
    """Of the patch's file: the weights that an arm trains, and the statistics that its plan adapts."""
    changed = {id(p): p for m in blocks.tuned_modules(plan.arm) for p in m.parameters()}
    tensors: list[Tensor] = list(changed.values())
    if plan.adapts:
        found = [(n.running_mean, n.running_var) for n in batch_norms(blocks.model)]
        tensors += [t for pair in found for t in pair if t is not None]
    names = {id(t): len(key) for key, t in blocks.model.state_dict(keep_vars=True).items()}
    each = (t.numel() * t.element_size() + names.get(id(t), 0) + TENSOR_BYTES for t in tensors)
    return PATCH_BYTES + sum(each)
