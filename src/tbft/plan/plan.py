"""Plans: arm, recipe, statistics and budget. No tensors here.

The levels of drift and the block to tune for each follow Huang et al. (EuroMLSys 2024), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tbft.blocks.arm import Arm
from tbft.errors import PlanError, unknown
from tbft.plan.budget import Budget
from tbft.plan.recipe import Recipe
from tbft.plan.recipes import find_recipe
from tbft.plan.statistics import Statistics

LEVELS = ("none", "input", "feature", "output")


@dataclass(frozen=True)
class Plan:
    """What to do, decided before tuning.

    Names and plain values can be given instead of objects: ``Plan("front", "fast", statistics="auto")``.

    Attributes:
        arm: ``none``, ``adabn``, ``full``, a block, a submodule inside one, several joined by ``+``, or a
            head in closed form: ``ridge`` or ``prototypes``.
        recipe: how to train the arm; ``adabn`` uses only its batch size.
        level: the level of drift that the plan is for; None if the arm was named.
        statistics: how to treat BatchNorm statistics, see :meth:`Statistics.of`; default: the recipe's policy
            for the level.
        seed: random seed for tuning.
        budget: limits for tuning.
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
    """The plan with some fields replaced."""
    return Plan(**{**{name: getattr(plan, name) for name in plan.__dataclass_fields__}, **fields})


def _joined_levels(level: str) -> bool:
    return "+" in level and set(level.split("+")) < set(LEVELS[1:])


def plan_level(level: str, blocks: Sequence[str], head: str, recipe: Recipe | str = "fast") -> Plan:
    """The plan for a given level of drift.

    Args:
        blocks: names of the blocks in order.
        head: name of the last layer, which is the arm for the output level if the recipe says so.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    return Plan(arm_for_level(level, blocks, head if recipe.head_alone else None), recipe, level)


def arm_for_level(level: str, block_names: Sequence[str], head: str | None = None) -> str:
    """The arm for a level of drift: the front block, the last block before the rear, or the rear block.

    For the feature level, the paper finds block 3 of 4 best; with two blocks it is the rear block.

    Args:
        head: a submodule to tune instead of the rear block, as the paper does with ``fc``.

    >>> [arm_for_level(level, ["front", "layer2", "layer3", "rear"]) for level in LEVELS]
    ['none', 'front', 'layer3', 'rear']
    """
    if level not in LEVELS:
        raise PlanError(unknown("level", level, LEVELS))
    if level == "none":
        return "none"
    if len(block_names) < 2:
        raise PlanError("a model with one block has no front, middle and rear: split it, or choose an arm")
    late = block_names[-2] if len(block_names) > 2 else block_names[-1]
    return {"input": block_names[0], "feature": late, "output": head or block_names[-1]}[level]
