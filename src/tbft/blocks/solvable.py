"""Whether the head of a model can be solved for."""

from __future__ import annotations

from torch import nn

from tbft.blocks.blocks import Blocks


def class_count(blocks: Blocks) -> int | None:
    """The classes of a model whose head can be solved for; None for others."""
    head = linear_head(blocks)
    return None if head is None else head.out_features


def linear_head(blocks: Blocks) -> nn.Linear | None:
    """The model's head if it is a plain linear layer with a bias that may be changed; otherwise None."""
    head = blocks.model.get_submodule(blocks.head_layer) if blocks.head_layer else blocks.model
    if type(head) is not nn.Linear or head.bias is None:
        return None
    return head if head.weight.requires_grad and head.bias.requires_grad else None
