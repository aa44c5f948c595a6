"""What a user requests from :func:`tbft.personalize`: a plan, or a choice of one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tbft.base import Base
from tbft.data.amounts import SplitBy, ValUse
from tbft.data.folds import MIN_HELD_OUT
from tbft.errors import PlanError, check_form, wrong_form
from tbft.plan import LEVELS, Budget, Plan, Recipe, Statistics, plan_level, replace_plan


@dataclass(frozen=True)
class Request:
    """A plan, a level or an arm by name, or ``auto``, as requested.

    Raises:
        PlanError: arguments that cannot be combined, or an unknown name.
    """

    base: Base
    level: str = "auto"
    arm: str | None = None
    requested_recipe: Recipe | str = "fast"
    statistics: Statistics | float | str | None = None
    seed: int = 0
    requested_budget: Budget | None = None
    requested_plan: Plan | None = None

    def __post_init__(self) -> None:
        check_form("budget", self.requested_budget, Budget, "a Budget")
        if self.requested_plan is not None:
            self._check_nothing_but_plan()
            return
        if self.arm is not None and self.level != "auto":
            raise PlanError(f"level {self.level!r} and arm {self.arm!r}: give one of the two")
        if self.is_open and self.statistics is not None:
            raise PlanError("a source share needs a level or an arm; level auto chooses its own")
        tracks = self.arm == "adabn" or self.recipe.tracking.refresh
        if self.statistics is not None and not tracks:
            raise PlanError(
                f"a source share needs the arm adabn or a recipe that refreshes, which {self.recipe.name!r} "
                "does not"
            )
        if self.is_open and self.recipe.duration.validate:
            raise PlanError(
                f"level auto needs a recipe without validation, but {self.recipe.name!r} validates: "
                f"name a level ({', '.join(LEVELS)}) or an arm"
            )
        _ = self.named_plan  # so that a misspelled name is reported before anything is read

    def _check_nothing_but_plan(self) -> None:
        if not isinstance(self.requested_plan, Plan):
            raise wrong_form("plan", self.requested_plan, ["a Plan"])
        others = [
            field.name.removeprefix("requested_")
            for field in fields(self)
            if field.name not in ("base", "requested_plan") and getattr(self, field.name) != field.default
        ]
        if others:
            raise PlanError(f"a plan includes {', '.join(others)}: leave out {', '.join(others)} or the plan")

    @property
    def recipe(self) -> Recipe:
        """The recipe, in the model's own variant if it has one."""
        return self.base.recipe(self.requested_recipe)

    @property
    def val_use(self) -> ValUse:
        """What the val part is for."""
        plan = self.named_plan
        if plan is not None and plan.arm.name == "none":
            return "evaluation"
        recipe = self.recipe if plan is None else plan.recipe
        return "epoch" if recipe.duration.validate else "acceptance"

    def split_by(self, group_by: str | None = None, order: str | None = None) -> SplitBy:
        """How samples are assigned to parts; see :class:`SplitBy`."""
        use = self.val_use
        few = MIN_HELD_OUT if use == "acceptance" else 0
        return SplitBy(self.seed, group_by, order, min_val=few, val_use=use)

    @property
    def is_open(self) -> bool:
        """Whether the plan has to be chosen."""
        return self.requested_plan is None and self.arm is None and self.level == "auto"

    @property
    def budget(self) -> Budget:
        """The budget, from the plan if there is one."""
        if self.requested_plan is not None:
            return self.requested_plan.budget
        return self.requested_budget or Budget()

    @property
    def named_plan(self) -> Plan | None:
        """The requested plan; None if it has to be chosen."""
        if self.is_open:
            return None
        blocks = self.base.blocks
        if self.requested_plan is not None:
            return replace_plan(self.requested_plan, arm=blocks.named(self.requested_plan.arm))
        recipe = self.recipe
        if self.arm is None:
            plan = plan_level(self.level, blocks.names, blocks.head, recipe)
        else:
            arm = blocks.named(self.arm)
            blocks.block_of(arm)
            statistics = 0.0 if arm.name == "adabn" else recipe.default_statistics()
            plan = Plan(arm, recipe, statistics=statistics)
        statistics = plan.statistics if self.statistics is None else Statistics.of(self.statistics)
        return replace_plan(plan, statistics=statistics, seed=self.seed, budget=self.budget)
