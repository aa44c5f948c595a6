"""The options among which a plan is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tbft.plan import FOLLOW, KEEP, Budget, Plan, Recipe, Statistics


@dataclass(frozen=True)
class Option:
    """An entry of the choice: an arm, and how BatchNorm statistics are treated.

    Attributes:
        name: ``none``, ``adabn``, the name of a block, ``head``, ``adabn+head``, ``front+head`` or ``full``.
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


def options_of(block_names: Sequence[str], head: str, batch_norm: bool) -> tuple[Option, ...]:
    """The options for a model.

    Args:
        head: name of the last layer, or of the rear block.
        batch_norm: whether the model has statistics that AdaBN can adapt.

    >>> [option.name for option in options_of(["front", "layer2", "rear"], "fc", True)]
    ['none', 'adabn', 'front', 'layer2', 'head', 'adabn+head', 'front+head', 'full']
    """
    statistics = FOLLOW if batch_norm else KEEP
    options = [Option("none", "none", KEEP, "none")]
    if batch_norm:
        options.append(Option("adabn", "adabn", FOLLOW, "adabn"))
    for k, name in enumerate(block_names[:-1]):
        role = "front" if k == 0 else "late" if k == len(block_names) - 2 else "middle"
        options.append(Option(name, name, statistics, role))
    options.append(Option("head", head, KEEP, "head"))
    if batch_norm:
        options.append(Option("adabn+head", head, FOLLOW, "adabn+head"))
    if len(block_names) > 1:
        options.append(Option("front+head", f"{block_names[0]}+{head}", statistics, "front+head"))
    return (*options, Option("full", "full", statistics, "full"))
