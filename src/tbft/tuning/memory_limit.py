"""Keeping what tuning allocates within a budget, by measuring small steps first.

Where a plain step takes too much, its activations are recomputed piece by piece; where that is still
too much, the batch is computed in parts whose gradients add up. BatchNorm then normalizes each part by
itself, and fewer samples say less of its statistics; so no part goes below :data:`LEAST_BATCH`. Where
even that is too much, the error says how little would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from tbft.blocks.precision import autocast, laid_out
from tbft.blocks.state import evaluating, modes_restored, values_restored
from tbft.blocks.tensors import state_bytes
from tbft.data.samples import Samples
from tbft.errors import BudgetError, PlanError
from tbft.metering.tensor_bytes import TensorBytes
from tbft.plan import Plan, Recipe
from tbft.tuning.loop import loss_of, make_optimizer
from tbft.tuning.prefix_cache import BATCH, CachePolicy, cache_prefix, cached_bytes

LEAST_BATCH = 4
#: Kept free: what one step allocates is not quite what another does.
MARGIN = 1.08


def affordable(peak_bytes: Callable[[int], int], most: int, left_bytes: int) -> int:
    """The largest batch, up to `most`, whose peak was measured to stay within what is left; 0 if none.

    Every part of the memory is a constant plus so much a sample. So k times the batch takes at most k
    times the memory, and a larger batch is only tried where that bound allows it.

    >>> affordable(lambda batch: 1000 + 50 * batch, 64, 2500)
    25
    """
    batch = min(LEAST_BATCH, most)
    peak = MARGIN * peak_bytes(batch)
    if peak > left_bytes:
        return 0
    while (larger := min(most, int(batch * left_bytes / peak))) > batch:
        batch, peak = larger, MARGIN * peak_bytes(larger)
    return batch


def least_needed(peak_bytes: Callable[[int], int], count: int) -> int:
    """What the smallest batch takes."""
    return int(MARGIN * peak_bytes(min(LEAST_BATCH, count)))


def forward_peak(module: nn.Module, samples: Samples, precision: str) -> Callable[[int], int]:
    """Measures a forward pass without gradients, with the outputs of two others kept."""

    def peak(batch: int) -> int:
        with evaluating(module), TensorBytes() as counted, autocast(precision):
            out = module(laid_out(samples.batch(slice(0, batch))[0]))
        return counted.peak + 2 * 4 * out.numel()

    return peak


class MemoryLimit:
    """What a plan's budget leaves for the prefix cache, for running the prefix, and for training steps.

    Args:
        parameters: those that are trained.
        spent_bytes: what is taken all the while.
    """

    def __init__(self, plan: Plan, parameters: Sequence[nn.Parameter], spent_bytes: int) -> None:
        self.plan, self.parameters, self.spent_bytes = plan, parameters, spent_bytes
        self.allowed_bytes = plan.budget.peak_bytes
        if self.allowed_bytes is not None and plan.recipe.validate:
            raise PlanError(
                f"a budget of memory is for recipes without validation; {plan.recipe.name!r} validates"
            )

    def for_prefix(
        self,
        prefix: nn.Module,
        rest: nn.Module,
        thrifty: Callable[[], nn.Module],
        train: Samples,
        policy: CachePolicy,
    ) -> tuple[CachePolicy, int]:
        """The cache's policy with what the smallest step leaves over, and the batch to run the prefix in.

        Args:
            rest: what comes after the prefix.
            thrifty: makes the same with its activations recomputed.

        Raises:
            PlanError: the smallest of everything is too much; the message says how much would do.
        """
        if self.allowed_bytes is None:
            return policy, BATCH
        recipe = self.plan.recipe
        running = forward_peak(prefix, train, recipe.precision)
        few = cache_prefix(prefix, train.subset(slice(0, LEAST_BATCH)), None, recipe.precision)
        steps = (least_needed(self._step_peak(way, few), len(few)) for way in (rest, thrifty()))
        training = _saved_states(rest) + min(steps)
        least = self.spent_bytes + max(least_needed(running, len(train)), training)
        whole = 4 * len(train) * int(np.prod(few.inputs.shape[1:])) if recipe.cache else 0
        self._check(least + (0 if policy.folder is not None else whole // 2))
        policy = replace(policy, memory_bytes=min(policy.memory_bytes, max(0, self.allowed_bytes - least)))
        kept = next((size for size in (whole, whole // 2) if size <= policy.memory_bytes), 0)
        left = self.allowed_bytes - self.spent_bytes - kept
        return policy, affordable(running, min(BATCH, len(train)), left)

    def for_forward(self, model: nn.Module, samples: Samples) -> int:
        """The batch in which a forward pass stays within the budget."""
        most = min(self.plan.recipe.batch_size, len(samples))
        if self.allowed_bytes is None:
            return most
        peak = forward_peak(model, samples, self.plan.recipe.precision)
        if not (size := affordable(peak, most, self.allowed_bytes - self.spent_bytes)):
            self._check(self.spent_bytes + least_needed(peak, most))
        return size

    def for_steps(
        self, recipe: Recipe, part: nn.Module, thrifty: Callable[[], nn.Module], train: Samples
    ) -> tuple[Recipe, nn.Module]:
        """What keeps a step, the cache and the saved states within the budget.

        Args:
            thrifty: makes the same part with its activations recomputed.

        Returns:
            the recipe, with a `part_size` where a whole batch is too much; and `part` or its thrifty double.
        """
        if self.allowed_bytes is None:
            return recipe, part
        spent = self.spent_bytes + cached_bytes(train) + _saved_states(part)
        left, most = self.allowed_bytes - spent, min(recipe.batch_size, len(train))
        sizes: dict[nn.Module, int] = {}
        for way in (part, thrifty()):
            sizes[way] = affordable(self._step_peak(way, train), most, left)
            if sizes[way] == most:
                return recipe, way
        best = max(sizes, key=lambda way: sizes[way])
        if not sizes[best]:
            self._check(spent + min(least_needed(self._step_peak(way, train), most) for way in sizes))
        return replace(recipe, part_size=sizes[best]), best

    def _check(self, needed_bytes: int) -> None:
        assert self.allowed_bytes is not None
        if needed_bytes > self.allowed_bytes:
            raise BudgetError(
                f"tuning {self.plan.arm!r} takes at least {needed_bytes / 2**20 + 0.05:.1f} MiB, more than "
                f"the {self.allowed_bytes / 2**20:.1f} MiB allowed: allow that much, tune a later block, or "
                "name a folder for the outputs of the frozen prefix",
                needed_bytes,
            )

    def _step_peak(self, part: nn.Module, samples: Samples) -> Callable[[int], int]:
        """Measures a training step, its optimizer's state included; values and modes come back."""

        def peak(batch: int) -> int:
            x, y = samples.batch(slice(0, batch))
            with values_restored(part), modes_restored(part), TensorBytes() as counted:
                optimizer = make_optimizer(self.plan.recipe, self.parameters, 0.0)
                for _ in range(2):  # the second finds the first one's gradients, as parts of a batch do
                    loss_of(part, self.plan.recipe, x, y).backward()
                optimizer.step()
            for p in self.parameters:
                p.grad = None
            return counted.peak

        return peak


def _saved_states(part: nn.Module) -> int:
    """The best epoch's state, the last one's, and the one being copied."""
    return 3 * state_bytes(part.state_dict())
