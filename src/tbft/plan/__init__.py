"""What is decided before tuning: arms, recipes, plans and budgets, and the numbers they resolve to."""

from tbft.plan.budget import Allowance, Budget, Spending, SpentError
from tbft.plan.numbers import Training
from tbft.plan.plan import LEVELS, Plan, arm_for_level, plan_level, replace_plan
from tbft.plan.recipe import Recipe
from tbft.plan.recipes import RECIPES, find_recipe
from tbft.plan.resolution import ResolvedPlan, resolve
from tbft.plan.statistics import AUTO, FOLLOW, KEEP, PSEUDO_SAMPLES, Statistics

__all__ = [
    "AUTO",
    "FOLLOW",
    "KEEP",
    "LEVELS",
    "PSEUDO_SAMPLES",
    "RECIPES",
    "Allowance",
    "Budget",
    "Plan",
    "Recipe",
    "ResolvedPlan",
    "Spending",
    "SpentError",
    "Statistics",
    "Training",
    "arm_for_level",
    "find_recipe",
    "plan_level",
    "replace_plan",
    "resolve",
]
