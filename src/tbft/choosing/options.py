"""The options among which a plan is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tbft.plan import FOLLOW, KEEP, Budget, Plan, Recipe, Statistics


@dataclass(frozen=True)
class Option:
    """An entry of the choice: an arm, and how BatchNorm statistics are treated.

    Attributes:
        name: ``none``, ``adabn``, the name of a block, ``head``, ``ridge`` or ``prototypes``, each of them
            also after AdaBN (``adabn+head``), ``front+head``, ``late+head`` or ``full``.
        role: same as the name, except that blocks are ``front``, ``middle`` or ``late``, whatever the model
            calls them.
    """

    name: str
    arm: str
    statistics: Statistics
    role: str

    def plan(self, recipe: Recipe, seed: int, budget: Budget) -> Plan:
        """The plan that carries out this option."""
        return Plan(self.arm, recipe, None, self.statistics, seed, budget)


def options_of(
    block_names: Sequence[str], head: str, batch_norm: bool, linear_head: bool = True
) -> tuple[Option, ...]:
    """The options for a model.

    Args:
        head: name of the last layer, or of the rear block.
        batch_norm: whether the model has statistics that AdaBN can adapt.
        linear_head: whether the head can be computed in closed form.

    >>> [option.name for option in options_of(["front", "layer2", "rear"], "fc", False)]
    ['none', 'front', 'layer2', 'head', 'ridge', 'prototypes', 'front+head', 'layer2+head', 'full']
    """
    statistics = FOLLOW if batch_norm else KEEP
    options = [Option("none", "none", KEEP, "none")]
    if batch_norm:
        options.append(Option("adabn", "adabn", FOLLOW, "adabn"))
    for k, name in enumerate(block_names[:-1]):
        role = "front" if k == 0 else "late" if k == len(block_names) - 2 else "middle"
        options.append(Option(name, name, statistics, role))
    for role, arm in [("head", head)] + [(arm, arm) for arm in ("ridge", "prototypes") if linear_head]:
        options.append(Option(role, arm, KEEP, role))
        if batch_norm:
            options.append(Option(f"adabn+{role}", arm, FOLLOW, f"adabn+{role}"))
    joined = dict.fromkeys(block_names[:1]) | dict.fromkeys(block_names[-2:-1])
    for k, name in enumerate(joined):
        role = "late+head" if k or len(block_names) == 2 else "front+head"
        options.append(Option(f"{name}+head", f"{name}+{head}", statistics, role))
    return (*options, Option("full", "full", statistics, "full"))
