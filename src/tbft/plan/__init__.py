"""What is decided before a step is taken: arms, recipes, plans and budgets."""

from tbft.plan.plan import (
    LEVELS,
    PSEUDO_SAMPLES,
    RECIPES,
    Budget,
    Plan,
    Recipe,
    arm_for_level,
    find_recipe,
)

__all__ = [
    "LEVELS",
    "PSEUDO_SAMPLES",
    "RECIPES",
    "Budget",
    "Plan",
    "Recipe",
    "arm_for_level",
    "find_recipe",
]
