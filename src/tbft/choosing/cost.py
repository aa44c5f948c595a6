"""Predict what a plan costs before it runs: processor seconds, energy, bytes, floating-point operations.

An adaptation is described by a :class:`tbft.choosing.workload.Workload`: how many samples pass through which
stages of the model, and how often. Seconds follow from timing each operation on this machine now, see
``timing.py``; operations and activations are counted on a real training step, see ``counting.py``.
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
from tbft.plan.resolution import PREFIX_BATCH, AdaptStatistics, SolveHead, Train
from tbft.tuning.memory_limit import MIN_BATCH, memory_needed
from tbft.verification.running import BATCH_SIZE as EVALUATED
from tbft.verification.running import computing_on

#: Largest batch on which operations are timed; beyond it, time per sample hardly changes.
MAX_BATCH = 128
#: Bytes of a patch's header, and of each tensor's name, type, shape and offset in it.
PATCH_BYTES, TENSOR_BYTES = 1500, 75


@dataclass(frozen=True)
class Cost:
    """The predicted cost of carrying out a plan.

    Attributes:
        flops: floating-point operations in total, multiplications and additions counted separately; None: not
            counted.
        cpu_seconds: processor seconds on this machine, including the comparison on held-out samples.
        patch_bytes: size of the patch file.
        min_bytes: smallest memory for tensors and cache with which the plan can run; None: not measured.
        energy_joules: estimated energy; None without a profile of this board.
        wall_seconds: elapsed time with the number of threads that torch uses, if nothing else runs.
        cache_bytes: size of the cached prefix outputs in ``float32``.
        peak_bytes: peak memory of tensors and cache without a budget; None: not counted.
        step: one training step, counted; None: not counted, or there is no training.
        training_cpu_seconds: the part of `cpu_seconds` that is proportional to the number of steps.
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
    training_cpu_seconds: float = 0.0

    def times(self, runs: int) -> Cost:
        """The cost of carrying out the plan several times, as cross-fitting does."""
        return replace(
            self,
            flops=None if self.flops is None else runs * self.flops,
            cpu_seconds=runs * self.cpu_seconds,
            energy_joules=None if self.energy_joules is None else runs * self.energy_joules,
            wall_seconds=runs * self.wall_seconds,
            training_cpu_seconds=runs * self.training_cpu_seconds,
        )

    def shortened(self, length: float) -> Cost:
        """The cost with a share of the training steps."""
        saved = (1 - length) * self.training_cpu_seconds
        share = 1 - saved / self.cpu_seconds if self.cpu_seconds else 1.0
        return replace(
            self,
            flops=None,
            cpu_seconds=self.cpu_seconds - saved,
            energy_joules=None if self.energy_joules is None else share * self.energy_joules,
            wall_seconds=share * self.wall_seconds,
            training_cpu_seconds=length * self.training_cpu_seconds,
        )


@dataclass(frozen=True)
class Prediction:
    """How costs are predicted.

    Attributes:
        judged: number of held-out samples on which base and tuned model are compared afterwards.
        val_count: number of held-out samples for recipes that validate.
        count: number of training samples; None: the number of samples given.
        profile: profile of this board; without one there is no energy estimate.
        min_seconds: processor time to spend on timing; see :func:`tbft.choosing.timing.calibrate`.
        counted: also count floating-point operations and the bytes that a step keeps.
        memory: also measure the smallest memory with which each plan can run.
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
    """Predict the cost of each plan without running it.

    Args:
        plans: name -> plan; all with the same recipe and budget.
        samples: samples like those that would be tuned on.
    """
    how = how or Prediction()
    count = len(samples) if how.count is None else how.count
    resolved = {name: resolve(plan, blocks, count, how.val_count) for name, plan in plans.items()}
    stages = stages_for(blocks, [plan.arm for plan in plans.values()])
    workloads = {name: workload_of(plan, stages, how.judged) for name, plan in resolved.items()}
    operations = {operation for workload in workloads.values() for operation in workload.operations}
    nothing = Cost(0.0, 0.0, 0, energy_joules=None if how.profile is None else 0.0)
    if not operations:
        return dict.fromkeys(plans, nothing)
    first = next(iter(plans.values()))
    training = first.recipe.training(count)
    batch_size = min(-(-count // training.steps_per_epoch(count)), MAX_BATCH)
    if first.budget.peak_bytes is not None:
        batch_size = min(batch_size, MIN_BATCH)
    timings = calibrate(stages, operations, samples, first.recipe, batch_size, how.min_seconds)
    forward_flops = stage_flops(stages, samples.batch(slice(0, 1))[0]) if how.counted else None
    costs = {}
    for name, plan in resolved.items():
        if not workloads[name].operations:
            costs[name] = nothing
            continue
        cost = _timed(plan, workloads[name], timings, count, how.profile)
        if forward_flops is not None:
            cost = _counted(cost, plan, workloads[name], samples, forward_flops)
        if how.memory:
            cost = replace(cost, min_bytes=memory_needed(plan, samples))
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
        patch_bytes=patch_bytes(resolved),
        energy_joules=None if profile is None else profile.estimate(seconds * timings.wall_share, seconds),
        wall_seconds=seconds * timings.wall_share,
        cache_bytes=4 * count * timings.scalars[workload.start] if caches else 0,
        training_cpu_seconds=timings.of(workload.training),
    )


def _counted(
    cost: Cost, resolved: ResolvedPlan, workload: Workload, samples: Samples, forward_flops: list[int]
) -> Cost:
    """Add floating-point operations and peak memory to a cost."""
    passes = workload.passes.items()
    flops = sum(n * forward_flops[k] for (kind, k), n in passes if kind in ("cache", "adapt", "evaluate"))
    recipe, model = resolved.plan.recipe, resolved.blocks.model
    state, wanted = state_bytes(model.state_dict()), recipe.computation
    computing = computing_on(resolved.blocks.whole, samples, wanted.precision, wanted.channels_last)
    adapts = resolved.statistics.adapts
    if resolved.training is None:
        batch_size = max(p.batch_size for p in resolved.passes if isinstance(p, (AdaptStatistics, SolveHead)))
        forward = count_forward(resolved.blocks.whole, computing, samples, batch_size, adapts)
        return replace(cost, flops=float(flops), peak_bytes=max(forward + state, 2 * state))
    # Forward passes without gradients run in larger batches than training steps.
    forward_batch = max(PREFIX_BATCH, EVALUATED if resolved.training.validate else 0)
    trained = next(p.samples for p in resolved.passes if isinstance(p, Train))
    forward = count_forward(resolved.blocks.whole, computing, samples, min(trained, forward_batch), adapts)
    step = count_step(resolved, computing, samples, min(trained, resolved.training.batch_size))
    flops += workload.samples * (step.forward_flops + step.backward_flops)
    flops += workload.steps * step.optimizer_flops
    part = resolved.stages.onward(resolved.start) if recipe.computation.cache else model
    # A copy of the base is kept throughout; during steps, also the tuned part after the previous epoch;
    # afterwards, that part, its successor and the whole tuned model.
    part_state = state_bytes(part.state_dict())
    peak = state + max(step.peak_bytes + part_state, forward, 2 * part_state + state)
    return replace(cost, flops=float(flops), step=step, peak_bytes=peak + cost.cache_bytes)


def plans_of(blocks: Blocks, recipe: Recipe) -> dict[str, Plan]:
    """A plan for each arm of a model, with the recipe's default policy for statistics."""
    head = [] if blocks.head in blocks.names else [blocks.head]
    statistics = recipe.default_statistics()
    plans = {arm: Plan(arm, recipe, statistics=statistics) for arm in (*blocks.names, *head, "full")}
    if batch_norms(blocks.model):
        plans = {"adabn": Plan("adabn", recipe, statistics=statistics), **plans}
    return plans


def patch_bytes(resolved: ResolvedPlan) -> int:
    """Predicted size of the patch file: the weights that the plan trains, and the statistics it adapts."""
    blocks, plan = resolved.blocks, resolved.plan
    tensors: list[Tensor] = [*blocks.trainable(plan.arm), *resolved.along]
    if plan.statistics.adapts:
        statistics = [(n.running_mean, n.running_var) for n in batch_norms(blocks.model)]
        tensors += [t for pair in statistics for t in pair if t is not None]
    name_bytes = {id(t): len(key) for key, t in blocks.model.state_dict(keep_vars=True).items()}
    sizes = (t.numel() * t.element_size() + name_bytes.get(id(t), 0) + TENSOR_BYTES for t in tensors)
    return PATCH_BYTES + sum(sizes)
