"""What an arm costs before it runs: processor seconds, energy, bytes, floating-point operations.

An adaptation is written down as a :class:`tbft.choosing.workload.Workload`: how many samples go through which
pieces of the model, and how often. Seconds follow from what each piece takes on this machine now, see
``timing.py``; operations and activations are counted on the real step, see ``counting.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from tbft.blocks import Blocks, stages_for
from tbft.blocks.state import batch_norms
from tbft.blocks.tensors import state_bytes
from tbft.choosing.counting import StepCount, count_forward, count_step, stage_flops
from tbft.choosing.timing import MIN_SECONDS, Timings, calibrate
from tbft.choosing.workload import Workload, workload_of
from tbft.data.samples import Samples
from tbft.metering.profile import Profile
from tbft.plan import Plan, Recipe, ResolvedPlan, resolve
from tbft.plan.resolution import PREFIX_BATCH, AdaptStatistics, Train
from tbft.tuning.memory_limit import MIN_BATCH, memory_needed
from tbft.verification.evaluation import BATCH_SIZE as EVALUATED
from tbft.verification.evaluation import computing_on

#: Operations are timed on no larger batch than this; time per sample changes little from there on.
MAX_BATCH = 128
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
        min_bytes: tensors and cache with which it can be done at all; None: not looked at.
        energy_joules: None where no profile of this board allows an estimate.
        wall_seconds: with as many threads as torch uses, if nothing else runs.
        cache_bytes: of the prefix's outputs, in ``float32``.
        peak_bytes: of tensors and cache at the peak, without a budget; None: not counted.
        step: one training step, counted; None: not counted, or there is none.
    """

    flops: float | None
    cpu_seconds: float
    patch_bytes: int
    min_bytes: int | None = None
    energy_joules: float | None = None
    wall_seconds: float = 0.0
    cache_bytes: int = 0
    peak_bytes: int | None = None
    step: StepCount | None = None


@dataclass(frozen=True)
class Prediction:
    """How costs are predicted.

    Attributes:
        judged: held-out samples on which base and tuned model are compared afterwards.
        val_count: held-out samples that recipes validate by.
        count: how many would be tuned on; None: as many as there are samples.
        profile: of this board; without one there is no energy figure.
        min_seconds: of timing an operation; see :func:`tbft.choosing.timing.calibrate`.
        counted: also count floating-point operations, and the bytes that a step keeps.
        memory: also measure how little memory a plan can be carried out with.
    """

    judged: int = 0
    val_count: int = 0
    count: int | None = None
    profile: Profile | None = None
    min_seconds: float = MIN_SECONDS
    counted: bool = False
    memory: bool = False


def predict_costs(
    blocks: Blocks, plans: Mapping[str, Plan], samples: Samples, how: Prediction | None = None
) -> dict[str, Cost]:
    """The cost of each plan, without running it.

    Args:
        plans: name -> plan; they share a recipe and a budget.
        samples: like those that would be tuned on.
    """
    how = how or Prediction()
    count = len(samples) if how.count is None else how.count
    resolved = {name: resolve(plan, blocks, count, how.val_count) for name, plan in plans.items()}
    stages = stages_for(blocks, [plan.arm for plan in plans.values()])
    workloads = {name: workload_of(one, stages, how.judged) for name, one in resolved.items()}
    operations = {operation for workload in workloads.values() for operation in workload.operations}
    nothing = Cost(0.0, 0.0, 0, energy_joules=None if how.profile is None else 0.0)
    if not operations:
        return dict.fromkeys(plans, nothing)
    plan = next(iter(plans.values()))
    training = plan.recipe.training(count)
    batch = min(-(-count // training.steps_per_epoch(count)), MAX_BATCH)
    if plan.budget.peak_bytes is not None:
        batch = min(batch, MIN_BATCH)
    timings = calibrate(stages, operations, samples, plan.recipe, batch, how.min_seconds)
    forward = stage_flops(stages, samples.batch(slice(0, 1))[0]) if how.counted else None
    costs = {}
    for name, one in resolved.items():
        if not workloads[name].operations:
            costs[name] = nothing
            continue
        cost = _timed(one, workloads[name], timings, count, how.profile)
        if forward is not None:
            cost = _counted(cost, one, workloads[name], samples, forward)
        if how.memory:
            cost = replace(cost, min_bytes=memory_needed(one, samples))
        costs[name] = cost
    return costs


def _timed(
    resolved: ResolvedPlan, workload: Workload, timings: Timings, count: int, profile: Profile | None
) -> Cost:
    plan, seconds = resolved.plan, timings.of(workload.operations)
    caches = plan.recipe.computation.cache and workload.start and workload.steps
    return Cost(
        flops=None,
        cpu_seconds=seconds,
        patch_bytes=patch_bytes(resolved.blocks, plan),
        energy_joules=None if profile is None else profile.estimate(seconds * timings.wall_share, seconds),
        wall_seconds=seconds * timings.wall_share,
        cache_bytes=4 * count * timings.scalars[workload.start] if caches else 0,
    )


def _counted(
    cost: Cost, resolved: ResolvedPlan, workload: Workload, samples: Samples, forward_flops: list[int]
) -> Cost:
    """The same with floating-point operations and the peak of memory."""
    passes = workload.passes.items()
    flops = sum(n * forward_flops[k] for (kind, k), n in passes if kind in ("cache", "adapt", "evaluate"))
    recipe, model = resolved.plan.recipe, resolved.blocks.model
    state, wanted = state_bytes(model.state_dict()), recipe.computation
    computing = computing_on(model, samples, wanted.precision, wanted.channels_last)
    adapts = resolved.statistics.adapts
    if resolved.training is None:
        (batch,) = (one.batch_size for one in resolved.passes if isinstance(one, AdaptStatistics))
        forward = count_forward(model, computing, samples, batch, adapts)
        return replace(cost, flops=float(flops), peak_bytes=max(forward + state, 2 * state))
    # What runs forward alone does so in larger batches than steps.
    passing = max(PREFIX_BATCH, EVALUATED if resolved.training.validate else 0)
    trained = next(one.samples for one in resolved.passes if isinstance(one, Train))
    forward = count_forward(model, computing, samples, min(trained, passing), adapts)
    step = count_step(resolved, computing, samples, min(trained, resolved.training.batch_size))
    flops += workload.samples * (step.forward_flops + step.backward_flops)
    flops += workload.steps * step.optimizer_flops
    part = resolved.stages.onward(resolved.start) if recipe.computation.cache else model
    # All the while there is the model as it was; in steps, the part after the epoch before; after them, that,
    # its successor and the model as it has become.
    own = state_bytes(part.state_dict())
    peak = state + max(step.peak_bytes + own, forward, 2 * own + state)
    return replace(cost, flops=float(flops), step=step, peak_bytes=peak + cost.cache_bytes)


def plans_of(blocks: Blocks, recipe: Recipe) -> dict[str, Plan]:
    """Every arm of a model with the statistics that it would mostly be tuned with."""
    head = [] if blocks.head in blocks.names else [blocks.head]
    statistics = recipe.default_statistics()
    plans = {arm: Plan(arm, recipe, statistics=statistics) for arm in (*blocks.names, *head, "full")}
    if batch_norms(blocks.model):
        plans = {"adabn": Plan("adabn", recipe, statistics=statistics), **plans}
    return plans


def patch_bytes(blocks: Blocks, plan: Plan) -> int:
    """Of the patch's file: the weights that an arm trains, and the statistics that its plan adapts."""
    tensors: list[Tensor] = list(blocks.trainable(plan.arm))
    if plan.statistics.adapts:
        found = [(n.running_mean, n.running_var) for n in batch_norms(blocks.model)]
        tensors += [t for pair in found for t in pair if t is not None]
    names = {id(t): len(key) for key, t in blocks.model.state_dict(keep_vars=True).items()}
    each = (t.numel() * t.element_size() + names.get(id(t), 0) + TENSOR_BYTES for t in tensors)
    return PATCH_BYTES + sum(each)
