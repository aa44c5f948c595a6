"""Blocks cut finer, where an arm starts inside one: less of the model then counts as its frozen prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from tbft.blocks.arm import Arm
from tbft.blocks.assembly import cut_at
from tbft.blocks.blocks import Blocks
from tbft.errors import SplitError


def cut_before(blocks: Blocks, arm: Arm | str) -> tuple[Blocks, int]:
    """Blocks of which one starts with the arm, and its position: an arm may lie deep inside a block.

    Where no single tensor crosses there, the blocks stay as they are and the position is that of the
    block in which the arm lies. `none`, `adabn` and `full` start at 0.

    Raises:
        SplitError: an unknown arm.
    """
    arm = blocks.named(arm)
    if arm.name not in blocks.finer:
        blocks.finer[arm.name] = _cut_before(blocks, arm)
    return blocks.finer[arm.name]


def _cut_before(blocks: Blocks, arm: Arm) -> tuple[Blocks, int]:
    owners = blocks.owners(arm)
    if not owners or arm.is_full:
        return blocks, 0
    at = min(block.index for block in owners)
    tuned = {id(p) for module in blocks.tuned_modules(arm) for p in module.parameters()}
    for block, first in zip(owners, arm.parts, strict=True):
        if block.index != at or block.name == first:
            continue
        with suppress(SplitError):  # no single tensor crosses there
            finer = recut(blocks, [*blocks.cuts[:at], first, *blocks.cuts[at:]])
            # Parts of one block may be named in another order than they run in.
            if tuned.isdisjoint(id(p) for p in finer.prefix(at + 1).parameters()):
                return finer, at + 1
    return blocks, at


def recut(blocks: Blocks, cuts: Sequence[str]) -> Blocks:
    """The same model cut elsewhere.

    Raises:
        SplitError: a cut that more than one tensor crosses, or a model that cannot be traced.
    """
    if blocks.traced.opaque:
        raise SplitError(blocks.traced.opaque)
    return cut_at(blocks.model, cuts, ["front", *cuts], blocks.example, blocks.output)


def stages_for(blocks: Blocks, arms: Iterable[Arm | str]) -> Blocks:
    """The blocks, cut further wherever one of the arms starts inside one."""
    for part in {part for arm in arms for part in Arm.of(arm).parts} - set(blocks.names):
        blocks, _ = cut_before(blocks, part)
    return blocks
