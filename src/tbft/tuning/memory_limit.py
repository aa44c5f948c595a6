"""Keep the memory of tuning within a budget, by measuring small steps first.

If a plain step takes too much memory, its activations are recomputed piece by piece. If that still takes too
much, the batch is computed in parts whose gradients are accumulated. BatchNorm then normalizes each part
separately, with noisier statistics, so no part has fewer than :data:`MIN_BATCH` samples. If even that takes
too much, the error says how much memory is needed.
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
from tbft.plan import Allowance
from tbft.plan.budget import rounded
from tbft.plan.numbers import Training
from tbft.plan.resolution import PREFIX_BATCH, ResolvedPlan
from tbft.tuning.checkpointing import recomputed
from tbft.tuning.loop import loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.prefix_cache import CachePolicy, cache_prefix, cached_bytes
from tbft.verification.running import computing_on
from tbft.verification.task import Loss

MIN_BATCH = 4

#: Safety margin, as the memory of steps varies a little.
MARGIN = 1.08


def forward_batch(allowance: Allowance, largest: int) -> int:
    """Batch size of forward passes outside tuning; the smallest that tuning uses if memory is limited."""
    return largest if allowance.budget.peak_bytes is None else MIN_BATCH


def affordable(peak_bytes: Callable[[int], int], max_batch: int, left_bytes: int) -> int:
    """The largest batch size, up to `max_batch`, whose measured peak stays within what is left; 0 if none.

    Memory is a constant plus an amount per sample. So a batch k times as large takes at most k times the
    memory, and a larger batch is tried only where that bound allows it.

    >>> affordable(lambda batch: 1000 + 50 * batch, 64, 2500)
    25
    """
    batch_size = min(MIN_BATCH, max_batch)
    peak = MARGIN * peak_bytes(batch_size)
    if peak > left_bytes:
        return 0
    while (larger := min(max_batch, int(batch_size * left_bytes / peak))) > batch_size:
        batch_size, peak = larger, MARGIN * peak_bytes(larger)
    return batch_size


def min_needed(peak_bytes: Callable[[int], int], count: int) -> int:
    """Bytes that the smallest batch takes."""
    return int(MARGIN * peak_bytes(min(MIN_BATCH, count)))


def forward_peak(module: nn.Module, samples: Samples, computing: Computing) -> Callable[[int], int]:
    """A function from batch size to peak bytes of a forward pass, with the outputs of two others kept."""

    def peak(batch_size: int) -> int:
        with evaluating(module), TensorBytes() as counted, computing.autocast():
            out = module(computing.laid_out(samples.batch(slice(0, batch_size))[0]))
        return counted.peak + 2 * 4 * out.numel()

    return peak


class MemoryLimit:
    """What a plan's memory budget leaves for the prefix cache, the prefix and training steps.

    Args:
        computing: how the model is run.
        parameters: the trained parameters.
        spent_bytes: memory that is taken throughout.
        loss: the loss that is minimized.
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
                f"a memory budget needs a recipe without validation, but {resolved.plan.recipe.name!r} "
                "validates"
            )

    def for_prefix(self, train: Samples, policy: CachePolicy) -> tuple[CachePolicy, int]:
        """The cache policy with the memory that the smallest step leaves, and the prefix's batch size.

        Raises:
            BudgetError: even the smallest batches take too much; the message says how much is needed.
        """
        if self.allowed_bytes is None:
            return policy, PREFIX_BATCH
        needed, cache = self._prefix_needs(train)
        self._check(needed + (0 if policy.folder is not None else cache // 2))
        policy = replace(policy, memory_bytes=min(policy.memory_bytes, max(0, self.allowed_bytes - needed)))
        kept = next((size for size in (cache, cache // 2) if size <= policy.memory_bytes), 0)
        left = self.allowed_bytes - self.spent_bytes - kept
        return policy, affordable(self._prefix_peak(train), min(PREFIX_BATCH, len(train)), left)

    def for_forward(self, part: nn.Module, samples: Samples, batch_size: int) -> int:
        """The batch size, up to `batch_size`, at which a forward pass of `part` stays within the budget."""
        if self.allowed_bytes is None:
            return batch_size
        peak = forward_peak(part, samples, self.computing)
        if not (size := affordable(peak, batch_size, self.allowed_bytes - self.spent_bytes)):
            self._check(self.spent_bytes + min_needed(peak, batch_size))
        return size

    def for_steps(self, training: Training, part: nn.Module, train: Samples) -> tuple[Training, nn.Module]:
        """Fit a step, the cache and the saved states into the budget.

        Returns:
            the training, with a `part_size` if a whole batch takes too much; and `part`, or a version of it
            that recomputes its activations.
        """
        if self.allowed_bytes is None:
            return training, part
        spent = self.spent_bytes + cached_bytes(train) + _saved_states(part)
        left, max_batch = self.allowed_bytes - spent, min(training.batch_size, len(train))
        sizes: dict[nn.Module, int] = {}
        for candidate in (part, self._recomputed()):
            sizes[candidate] = affordable(self._step_peak(candidate, train), max_batch, left)
            if sizes[candidate] == max_batch:
                return training, candidate
        best = max(sizes, key=lambda candidate: sizes[candidate])
        if not sizes[best]:
            needs = (min_needed(self._step_peak(candidate, train), max_batch) for candidate in sizes)
            self._check(spent + min(needs))
        return replace(training, part_size=sizes[best]), best

    def needed_bytes(self, train: Samples) -> int:
        """Memory of tensors and cache that the plan needs at least."""
        resolved = self.resolved
        if resolved.training is None:
            return self.spent_bytes + min_needed(self._whole_peak(train), len(train))
        if resolved.start:
            needed, cache = self._prefix_needs(train)
            return needed + cache // 2
        parts = (resolved.stages.whole, self._recomputed())
        steps = (min_needed(self._step_peak(part, train), len(train)) for part in parts)
        return self.spent_bytes + _saved_states(resolved.stages.model) + min(steps)

    def _prefix_needs(self, train: Samples) -> tuple[int, int]:
        """Bytes needed besides the cache, and the size of the cache in ``float32``; 0 without one."""
        stages, start = self.resolved.stages, self.resolved.start
        few = cache_prefix(stages.prefix(start), train.subset(slice(0, MIN_BATCH)), None, self.computing)
        parts = (stages.onward(start), self._recomputed())
        steps = (min_needed(self._step_peak(part, few), len(few)) for part in parts)
        prefix = min_needed(self._prefix_peak(train), len(train))
        training = _saved_states(stages.onward(start)) + min(steps)
        cache = (
            4 * len(train) * int(np.prod(few.inputs.shape[1:]))
            if self.resolved.plan.recipe.computation.cache
            else 0
        )
        return self.spent_bytes + max(prefix, training), cache

    def _recomputed(self) -> nn.Module:
        return recomputed(self.resolved.stages, self.resolved.start)

    def _prefix_peak(self, train: Samples) -> Callable[[int], int]:
        prefix = self.resolved.stages.prefix(self.resolved.start)
        return forward_peak(prefix, train, self.computing)

    def _whole_peak(self, samples: Samples) -> Callable[[int], int]:
        return forward_peak(self.resolved.stages.whole, samples, self.computing)

    def _check(self, needed_bytes: int) -> None:
        assert self.allowed_bytes is not None
        if needed_bytes > self.allowed_bytes:
            needed, allowed = needed_bytes / 2**20 + 0.05, self.allowed_bytes / 2**20
            raise BudgetError(
                f"tuning {self.resolved.plan.arm.name!r} takes at least {needed:.1f} MiB, more than the "
                f"{rounded(allowed)} MiB allowed: allow that much, tune a later "
                "block, or name a folder for the outputs of the frozen prefix"
            )

    def _step_peak(self, part: nn.Module, samples: Samples) -> Callable[[int], int]:
        """A function from batch size to peak bytes of a training step, with the optimizer's state."""
        optimization = replace(self.resolved.plan.recipe.optimization, learning_rate=0.0)

        def peak(batch_size: int) -> int:
            x, y = samples.batch(slice(0, batch_size))
            with values_restored(part), modes_restored(part), TensorBytes() as counted:
                optimizer = make_optimizer(optimization, self.parameters)
                for _ in range(2):  # the second adds to gradients of the first, as parts of a batch do
                    loss = loss_of(part, self.computing, x, y, self.loss)
                    if loss.requires_grad:
                        loss.backward()
                optimizer.step()
            for p in self.parameters:
                p.grad = None
            return counted.peak

        return peak


def memory_needed(resolved: ResolvedPlan, train: Samples) -> int:
    """Bytes of tensors and cache that a plan needs at least, measured on small steps."""
    model = resolved.stages.model
    spent_bytes = 2 * state_bytes(model.state_dict())
    if not resolved.passes:
        return 0
    wanted = resolved.plan.recipe.computation
    computing = computing_on(resolved.stages.whole, train, wanted.precision, wanted.channels_last)
    if resolved.training is None:
        return MemoryLimit(resolved, computing, (), spent_bytes).needed_bytes(train)
    with values_restored(model), resolved.only() as parameters:
        return MemoryLimit(resolved, computing, parameters, spent_bytes).needed_bytes(train)


def _saved_states(part: nn.Module) -> int:
    """Bytes of the best epoch's state, the last one's, and the one being copied."""
    return 3 * state_bytes(part.state_dict())
