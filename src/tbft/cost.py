"""What an arm costs before it runs: floating-point operations, processor seconds, bytes.

Operations are counted by PyTorch's own counter on one sample and each block; seconds follow from how
fast this machine ran a forward pass just now. On a processor that predicts step time within a few points
of full fine-tuning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks import Blocks
from tbft.compute import autocast, laid_out
from tbft.data.samples import Samples
from tbft.errors import BudgetError
from tbft.plan import Budget, Plan
from tbft.restoring import batch_norms, evaluating
from tbft.tuning import STATISTICS_SAMPLES, cut_before, tune

#: A training step's operations run at so many times the time of a forward pass's: its gradients are
#: computed at smaller batches, and the optimiser and BatchNorm's backward pass are not in the count.
TRAINING_FACTOR = 1.55


@dataclass(frozen=True)
class Cost:
    """What carrying out a plan is predicted to take.

    Attributes:
        flops: floating-point operations of the whole job, multiplications and additions apart.
        cpu_seconds: processor seconds on one thread of this machine.
        patch_bytes: of the tensors that change.
        least_bytes: tensors and cache with which it can be done at all; None: not looked at.
        energy_joules: None where no profile of this board allows an estimate.
    """

    flops: float
    cpu_seconds: float
    patch_bytes: int
    least_bytes: int | None = None
    energy_joules: float | None = None


def predict_cost(blocks: Blocks, plan: Plan, samples: Samples, flops_per_second: float) -> Cost:
    """The cost of a plan on so many samples, without running it.

    Args:
        samples: that it would be tuned on; their number and one of them are used.
        flops_per_second: of a forward pass, see :func:`forward_speed`.
    """
    count = len(samples)
    statistics = min(count, STATISTICS_SAMPLES)
    if plan.arm == "none":
        return Cost(0.0, 0.0, 0)
    finer, at = cut_before(blocks, plan.arm)
    x, _ = samples.batch(slice(0, 1))
    flops = stage_flops(finer, x)
    if plan.arm == "adabn":
        total = float(count * sum(flops))
        return Cost(total, total / flops_per_second, _changed_bytes(blocks, plan))
    block = blocks.block_of(plan.arm)
    rear = block is not None and block.index == len(blocks) - 1
    middle = block is not None and block.index > 0 and not rear
    recipe = plan.recipe.for_samples(count, middle, rear)
    tuned = sum(flops) if plan.arm == "full" else flops[at]
    before, after = sum(flops[:at]), sum(flops[at:]) - tuned
    if "+" in plan.arm:  # what lies between is crossed, what is joined lies after
        after = sum(flops[at + 1 :])
    # Weights and inputs each take a backward pass as dear as the forward one; frozen parts only the inputs'.
    step = 3 * tuned + 2 * after
    training = recipe.epochs * count * (step + (0 if recipe.cache else before))
    forward = count * before + (statistics * sum(flops) if recipe.refresh and plan.adapts else 0)
    seconds = (forward + TRAINING_FACTOR * training) / flops_per_second
    return Cost(float(forward + training), seconds, _changed_bytes(blocks, plan))


def least_bytes(blocks: Blocks, plan: Plan, samples: Samples) -> int:
    """Tensors and cache with which a plan can be carried out at all, by asking for less than that."""
    try:
        tune(blocks, replace(plan, budget=Budget(peak_bytes=1)), samples)
    except BudgetError as error:
        return error.needed_bytes
    return 0


def stage_flops(blocks: Blocks, x: Tensor) -> list[int]:
    """Operations of each block's forward pass on a batch."""
    found = []
    with evaluating(blocks.model):
        for block in blocks:
            with FlopCounterMode(display=False) as counter:
                x = blocks.block(block.index)(x)
            found.append(counter.get_total_flops())
    return found


def forward_speed(blocks: Blocks, samples: Samples, precision: str = "auto") -> float:
    """Operations a second of forward passes on this machine now, on one processor's time."""
    x, _ = samples.batch(slice(0, min(32, len(samples))))
    flops = sum(stage_flops(blocks, x[:1])) * len(x)
    best = float("inf")
    with evaluating(blocks.model), autocast(precision):
        for _ in range(3):  # the first one warms up
            start = time.process_time()
            blocks.model(laid_out(x))
            best = min(best, time.process_time() - start)
    return flops / max(best, 1e-6)


def _changed_bytes(blocks: Blocks, plan: Plan) -> int:
    parameters = {id(p): p for m in blocks.tuned_modules(plan.arm) for p in m.parameters()}
    norms: list[Tensor] = []
    if plan.adapts:
        norms = [
            t for n in batch_norms(blocks.model) for t in (n.running_mean, n.running_var) if t is not None
        ]
    tensors: list[Tensor] = [*parameters.values(), *norms]
    return sum(t.numel() * t.element_size() for t in tensors)
