"""Split a model into blocks, freeze and give back: every change of the user's model has its undo here."""

from tbft.blocks.arm import Arm
from tbft.blocks.blocks import Block, Blocks, sequential, split
from tbft.blocks.finer import cut_before, stages_for

__all__ = ["Arm", "Block", "Blocks", "cut_before", "sequential", "split", "stages_for"]
