"""What can be done with a model: the options among which a plan is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tbft.plan import FOLLOW, KEEP, Budget, Plan, Recipe, Statistics


@dataclass(frozen=True)
class Option:
    """Something one can do: what is tuned, and what becomes of the statistics."""

    name: str  # none, adabn, the name of a block, head, adabn+head, front+head, full
    arm: str
    statistics: Statistics
    role: str  # as the name, but front, middle and late for blocks, whatever a model calls them

    def plan(self, recipe: Recipe, seed: int, budget: Budget) -> Plan:
        """The plan that does it."""
        return Plan(self.arm, recipe, None, self.statistics, seed, budget)


def options_of(block_names: Sequence[str], head: str, batch_norm: bool) -> tuple[Option, ...]:
    """What can be done with a model.

    Args:
        head: the last layer's name, or the rear block's.
        batch_norm: whether it has statistics that AdaBN could adapt.

    >>> [option.name for option in options_of(["front", "layer2", "rear"], "fc", True)]
    ['none', 'adabn', 'front', 'layer2', 'head', 'adabn+head', 'front+head', 'full']
    """
    statistics = FOLLOW if batch_norm else KEEP
    found = [Option("none", "none", KEEP, "none")]
    if batch_norm:
        found.append(Option("adabn", "adabn", FOLLOW, "adabn"))
    for k, name in enumerate(block_names[:-1]):
        role = "front" if k == 0 else "late" if k == len(block_names) - 2 else "middle"
        found.append(Option(name, name, statistics, role))
    found.append(Option("head", head, KEEP, "head"))
    if batch_norm:
        found.append(Option("adabn+head", head, FOLLOW, "adabn+head"))
    if len(block_names) > 1:
        found.append(Option("front+head", f"{block_names[0]}+{head}", statistics, "front+head"))
    return (*found, Option("full", "full", statistics, "full"))
