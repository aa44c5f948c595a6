"""The named recipes."""

from __future__ import annotations

from tbft.errors import PlanError, unknown
from tbft.plan.numbers import Computation, Duration, Front, Joint, Optimization, Scaling, Tracking
from tbft.plan.recipe import Recipe

_PAPER = Recipe(
    name="paper",
    optimization=Optimization("sgd", 1e-3, 1e-2, momentum=0.9, weight_decay=5e-4),
    duration=Duration(batch_size=128, epochs=10, patience=5),
    head_alone=True,
    source="Huang et al. 2024, CIFAR-10-C and CIFAR-Flip scripts",
)
_FAST = Recipe(
    name="fast",
    optimization=Optimization("adamw", 3e-3, 3e-2, weight_decay=0.05, schedule="one-cycle"),
    duration=Duration(batch_size=48, epochs=4, validate=False),
    scaling=Scaling(
        min_steps=40, middle_epochs=6, rear_min_steps=100, full_rate_from=1000, feature_keeps_below=400
    ),
    joint=Joint(solves_head=True, joint_learning_rate=1e-3, joint_min_steps=60, front_rate_factor=0.3),
    tracking=Tracking(refresh=True),
    computation=Computation(cache=True, channels_last=True, precision="auto"),
    front=Front(0.7, front_from=100, later_norms=True),
    head_alone=True,
    source="ours",
)
_BASE_PAPER = Recipe(
    name="base-paper",
    optimization=Optimization("sgd", 0.01, momentum=0.9, weight_decay=5e-4, schedule="step:50:0.5"),
    duration=Duration(batch_size=128, epochs=300, patience=60),
    computation=Computation(augment="crop-flip"),
    source="Huang et al. 2024, train_origin_resnet.py",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _PAPER,
        _PAPER.replace(name="paper-living17", optimizer="adam", momentum=0.0, weight_decay=0.0, patience=None,
                       source="Huang et al. 2024, Living-17 script"),
        _FAST,
        _BASE_PAPER,
        _BASE_PAPER.replace(name="base-paper-living17", optimizer="adam", learning_rate=2e-3, momentum=0.0,
                            weight_decay=5e-3, batch_size=224, epochs=75, patience=None,
                            schedule="step:25:0.5", augment="none",
                            source="Huang et al. 2024, Living17_ResNet26_origin.py"),
        _BASE_PAPER.replace(name="base-short", learning_rate=0.1, nesterov=True, epochs=30, patience=None,
                            schedule="one-cycle", channels_last=True, precision="auto",
                            source="one-cycle schedule of Smith & Topin 2019"),
    )
}  # fmt: skip


def find_recipe(name: str, own: dict[str, str] | None = None) -> Recipe:
    """The recipe with this name; `own` maps names to a model's own variants, see ``Preset.recipes``."""
    name = (own or {}).get(name, name)
    if name not in RECIPES:
        raise PlanError(unknown("recipe", name, RECIPES))
    return RECIPES[name]
