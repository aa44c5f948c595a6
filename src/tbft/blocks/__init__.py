"""Split a model into blocks, freeze and restore it: every change of the user's model has its undo here."""

from tbft.blocks.arm import Arm
from tbft.blocks.blocks import Block, Blocks
from tbft.blocks.checking import check_stages
from tbft.blocks.finer import cut_before, recut, stages_for
from tbft.blocks.gradients import check_gradients_reach
from tbft.blocks.splitting import sequential, split

__all__ = [
    "Arm",
    "Block",
    "Blocks",
    "check_gradients_reach",
    "check_stages",
    "cut_before",
    "recut",
    "sequential",
    "split",
    "stages_for",
]
