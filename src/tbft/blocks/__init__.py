"""Split a model into blocks, freeze and give back: every change of the user's model has its undo here."""

from tbft.blocks.blocks import Block, Blocks, sequential, split

__all__ = ["Block", "Blocks", "sequential", "split"]
