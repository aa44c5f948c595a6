"""Plans: arm, recipe, statistics and budget, decided before a step is taken. No tensors here.

The levels of drift and the block that mends each are those of Huang et al. (EuroMLSys 2024), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tbft.blocks.arm import Arm
from tbft.errors import PlanError, unknown
from tbft.plan.budget import Budget
from tbft.plan.recipe import Recipe, find_recipe
from tbft.plan.statistics import Statistics

LEVELS = ("none", "input", "feature", "output")


@dataclass(frozen=True)
class Plan:
    """What will be done, decided before a step is taken.

    Names and plain values stand for objects: ``Plan("front", "fast", statistics="auto")``.

    Attributes:
        arm: ``none``, ``adabn``, ``full``, a block, a submodule inside one, or several joined by ``+``.
        recipe: how an arm with parameters is trained; ``adabn`` uses its batch size alone.
        level: the level of drift it is meant for; None if the arm was named.
        statistics: what becomes of BatchNorm's statistics, see :meth:`Statistics.of`; None: as the recipe
            has it for the level.
        seed: random seed of tuning.
        budget: what tuning may take at most.
    """

    arm: Arm
    recipe: Recipe
    level: str | None
    statistics: Statistics
    seed: int
    budget: Budget

    def __init__(
        self,
        arm: Arm | str,
        recipe: Recipe | str = "fast",
        level: str | None = None,
        statistics: Statistics | float | str | None = None,
        seed: int = 0,
        budget: Budget | None = None,
    ) -> None:
        if level is not None and level not in LEVELS and not _joined_levels(level):
            raise PlanError(unknown("level", level, LEVELS))
        recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
        arm = Arm.of(arm)
        if statistics is None:
            statistics = Statistics.of(0.0) if arm.name == "adabn" else recipe.default_statistics(level)
        settled = (arm, recipe, level, Statistics.of(statistics), seed, budget or Budget())
        for field, value in zip(self.__dataclass_fields__, settled, strict=True):
            object.__setattr__(self, field, value)


def replace_plan(plan: Plan, **fields: Any) -> Plan:
    """The same plan with other fields."""
    return Plan(**{**{name: getattr(plan, name) for name in plan.__dataclass_fields__}, **fields})


def _joined_levels(level: str) -> bool:
    return "+" in level and set(level.split("+")) < set(LEVELS[1:])


def plan_level(level: str, blocks: Sequence[str], head: str, recipe: Recipe | str = "fast") -> Plan:
    """The plan for a level of drift that somebody named.

    Args:
        blocks: names of the blocks in order.
        head: the last layer's name; the arm of the output level where the recipe tunes the head alone.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    return Plan(arm_for_level(level, blocks, head if recipe.head_alone else None), recipe, level)


def arm_for_level(level: str, block_names: Sequence[str], head: str | None = None) -> str:
    """The arm that mends a level of drift: front block, the last block before the rear, or rear block.

    For the feature level the paper finds block 3 of 4 best; with two blocks it is the rear one.

    Args:
        head: take this submodule in place of the rear block, as the paper does with ``fc``.

    >>> [arm_for_level(level, ["front", "layer2", "layer3", "rear"]) for level in LEVELS]
    ['none', 'front', 'layer3', 'rear']
    """
    if level not in LEVELS:
        raise PlanError(unknown("level", level, LEVELS))
    if level == "none":
        return "none"
    if len(block_names) < 2:
        raise PlanError("a model of one block has no front, middle and rear: cut it, or choose an arm")
    late = block_names[-2] if len(block_names) > 2 else block_names[-1]
    return {"input": block_names[0], "feature": late, "output": head or block_names[-1]}[level]
