"""Keeping what tuning allocates within a budget, by measuring small steps first.

Where a plain step takes too much, its activations are recomputed piece by piece; where that is still
too much, the batch is computed in parts whose gradients add up. BatchNorm then normalizes each part by
itself, and fewer samples say less of its statistics; so no part goes below :data:`MIN_BATCH`. Where
even that is too much, the error says how little would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from tbft.blocks.precision import Computing
from tbft.blocks.state import evaluating, modes_restored, values_restored
from tbft.blocks.tensors import state_bytes
from tbft.data.samples import Samples
from tbft.errors import BudgetError, PlanError
from tbft.metering.tensor_bytes import TensorBytes
from tbft.plan.recipe import Training
from tbft.plan.resolution import PREFIX_BATCH, ResolvedPlan
from tbft.tuning.checkpointing import recomputed
from tbft.tuning.loop import loss_of, make_optimizer
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix, cached_bytes
from tbft.verification.evaluation import computing_on
from tbft.verification.task import Loss

MIN_BATCH = 4
#: Kept free: what one step allocates is not quite what another does.
MARGIN = 1.08


def affordable(peak_bytes: Callable[[int], int], most: int, left_bytes: int) -> int:
    """The largest batch, up to `most`, whose peak was measured to stay within what is left; 0 if none.

    Every part of the memory is a constant plus so much a sample. So k times the batch takes at most k
    times the memory, and a larger batch is only tried where that bound allows it.

    >>> affordable(lambda batch: 1000 + 50 * batch, 64, 2500)
    25
    """
    batch = min(MIN_BATCH, most)
    peak = MARGIN * peak_bytes(batch)
    if peak > left_bytes:
        return 0
    while (larger := min(most, int(batch * left_bytes / peak))) > batch:
        batch, peak = larger, MARGIN * peak_bytes(larger)
    return batch


def min_needed(peak_bytes: Callable[[int], int], count: int) -> int:
    """What the smallest batch takes."""
    return int(MARGIN * peak_bytes(min(MIN_BATCH, count)))


def forward_peak(module: nn.Module, samples: Samples, computing: Computing) -> Callable[[int], int]:
    """Measures a forward pass without gradients, with the outputs of two others kept."""

    def peak(batch: int) -> int:
        with evaluating(module), TensorBytes() as counted, computing.autocast():
            out = module(computing.laid_out(samples.batch(slice(0, batch))[0]))
        return counted.peak + 2 * 4 * out.numel()

    return peak


class MemoryLimit:
    """What a plan's budget leaves for the prefix cache, for running the prefix, and for training steps.

    Args:
        computing: how the model is computed.
        parameters: those that are trained.
        spent_bytes: what is taken all the while.
    """

    def __init__(
        self,
        resolved: ResolvedPlan,
        computing: Computing,
        parameters: Sequence[nn.Parameter],
        spent_bytes: int,
        loss: Loss = nn.functional.cross_entropy,
    ) -> None:
        self.resolved, self.computing = resolved, computing
        self.parameters, self.spent_bytes, self.loss = parameters, spent_bytes, loss
        self.allowed_bytes = resolved.plan.budget.peak_bytes
        if self.allowed_bytes is not None and resolved.training is not None and resolved.training.validate:
            raise PlanError(
                f"a memory budget needs a recipe without validation; {resolved.plan.recipe.name!r} validates"
            )

    def for_prefix(self, train: Samples, policy: CachePolicy) -> tuple[CachePolicy, int]:
        """The cache's policy with what the smallest step leaves over, and the batch to run the prefix in.

        Raises:
            BudgetError: the smallest of everything is too much; the message says how much would do.
        """
        if self.allowed_bytes is None:
            return policy, PREFIX_BATCH
        least, whole = self._prefix_needs(train)
        self._check(least + (0 if policy.folder is not None else whole // 2))
        policy = replace(policy, memory_bytes=min(policy.memory_bytes, max(0, self.allowed_bytes - least)))
        kept = next((size for size in (whole, whole // 2) if size <= policy.memory_bytes), 0)
        left = self.allowed_bytes - self.spent_bytes - kept
        return policy, affordable(self._running_prefix(train), min(PREFIX_BATCH, len(train)), left)

    def for_forward(self, samples: Samples, batch_size: int) -> int:
        """The batch, up to `batch_size`, in which a forward pass of the model stays within the budget."""
        if self.allowed_bytes is None:
            return batch_size
        peak = self._running_model(samples)
        if not (size := affordable(peak, batch_size, self.allowed_bytes - self.spent_bytes)):
            self._check(self.spent_bytes + min_needed(peak, batch_size))
        return size

    def for_steps(self, training: Training, part: nn.Module, train: Samples) -> tuple[Training, nn.Module]:
        """What keeps a step, the cache and the saved states within the budget.

        Returns:
            the training, with a `part_size` where a whole batch is too much; and `part`, or the same with its
            activations recomputed.
        """
        if self.allowed_bytes is None:
            return training, part
        spent = self.spent_bytes + cached_bytes(train) + _saved_states(part)
        left, most = self.allowed_bytes - spent, min(training.batch_size, len(train))
        sizes: dict[nn.Module, int] = {}
        for candidate in (part, self._recomputed()):
            sizes[candidate] = affordable(self._step_peak(candidate, train), most, left)
            if sizes[candidate] == most:
                return training, candidate
        best = max(sizes, key=lambda candidate: sizes[candidate])
        if not sizes[best]:
            self._check(spent + min(min_needed(self._step_peak(one, train), most) for one in sizes))
        return replace(training, part_size=sizes[best]), best

    def needed_bytes(self, train: Samples) -> int:
        """Tensors and cache with which the plan can be carried out at all."""
        resolved = self.resolved
        if resolved.training is None:
            return self.spent_bytes + min_needed(self._running_model(train), len(train))
        if resolved.start:
            least, whole = self._prefix_needs(train)
            return least + whole // 2
        parts = (resolved.stages.whole, self._recomputed())
        steps = (min_needed(self._step_peak(part, train), len(train)) for part in parts)
        return self.spent_bytes + _saved_states(resolved.stages.model) + min(steps)

    def _prefix_needs(self, train: Samples) -> tuple[int, int]:
        """What is needed at least without a cache, and the cache's size in ``float32``; 0 without one."""
        stages, start = self.resolved.stages, self.resolved.start
        few = cache_prefix(stages.prefix(start), train.subset(slice(0, MIN_BATCH)), None, self.computing)
        parts = (stages.onward(start), self._recomputed())
        steps = (min_needed(self._step_peak(part, few), len(few)) for part in parts)
        running = min_needed(self._running_prefix(train), len(train))
        training = _saved_states(stages.onward(start)) + min(steps)
        whole = (
            4 * len(train) * int(np.prod(few.inputs.shape[1:]))
            if self.resolved.plan.recipe.computation.cache
            else 0
        )
        return self.spent_bytes + max(running, training), whole

    def _recomputed(self) -> nn.Module:
        return recomputed(self.resolved.stages, self.resolved.start)

    def _running_prefix(self, train: Samples) -> Callable[[int], int]:
        prefix = self.resolved.stages.prefix(self.resolved.start)
        return forward_peak(prefix, train, self.computing)

    def _running_model(self, samples: Samples) -> Callable[[int], int]:
        return forward_peak(self.resolved.stages.whole, samples, self.computing)

    def _check(self, needed_bytes: int) -> None:
        assert self.allowed_bytes is not None
        if needed_bytes > self.allowed_bytes:
            needed, allowed = needed_bytes / 2**20 + 0.05, self.allowed_bytes / 2**20
            raise BudgetError(
                f"tuning {self.resolved.plan.arm.name!r} takes at least {needed:.1f} MiB, more than the "
                f"{allowed:.1f} MiB allowed: allow that much, tune a later "
                "block, or name a folder for the outputs of the frozen prefix"
            )

    def _step_peak(self, part: nn.Module, samples: Samples) -> Callable[[int], int]:
        """Measures a training step, its optimizer's state included; values and modes come back."""
        optimization = replace(self.resolved.plan.recipe.optimization, learning_rate=0.0)

        def peak(batch: int) -> int:
            x, y = samples.batch(slice(0, batch))
            with values_restored(part), modes_restored(part), TensorBytes() as counted:
                optimizer = make_optimizer(optimization, self.parameters)
                for _ in range(2):  # the second finds the first one's gradients, as parts of a batch do
                    loss_of(part, self.computing, x, y, self.loss).backward()
                optimizer.step()
            for p in self.parameters:
                p.grad = None
            return counted.peak

        return peak


def memory_needed(resolved: ResolvedPlan, train: Samples) -> int:
    """Bytes of tensors and cache with which a plan can be carried out at all; measured on small steps."""
    model = resolved.stages.model
    spent_bytes = 2 * state_bytes(model.state_dict())
    if not resolved.passes:
        return 0
    wanted = resolved.plan.recipe.computation
    computing = computing_on(model, train, wanted.precision, wanted.channels_last)
    if resolved.training is None:
        return MemoryLimit(resolved, computing, (), spent_bytes).needed_bytes(train)
    with values_restored(model), resolved.blocks.only(resolved.plan.arm, resolved.track) as parameters:
        return MemoryLimit(resolved, computing, parameters, spent_bytes).needed_bytes(train)


def _saved_states(part: nn.Module) -> int:
    """The best epoch's state, the last one's, and the one being copied."""
    return 3 * state_bytes(part.state_dict())
