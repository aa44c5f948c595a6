"""Models of token ids: their first layer looks rows up in a table, by whole numbers."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.nn import functional as F

from tbft.blocks.tracing import trace_deep
from tbft.errors import SplitError

#: Functions and methods that take parts of a tensor, or convert it to whole numbers.
_PARTS = (
    *(operator.getitem, torch.select, torch.unbind, torch.chunk, torch.split),
    *("select", "unbind", "chunk", "split", "long", "int", "squeeze"),
)
_LOOKUPS = (F.embedding, torch.embedding, F.embedding_bag)


def takes_token_ids(model: nn.Module) -> bool:
    """Whether the first input of a model, or a part of it, goes into an embedding as it is.

    >>> takes_token_ids(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)))
    True
    """
    if not any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in model.modules()):
        return False
    try:
        traced = trace_deep(model)
    except SplitError:  # by the order in which layers were registered, then
        layers = (m for m in model.modules() if any(True for _ in m.parameters(recurse=False)))
        return isinstance(next(layers), (nn.Embedding, nn.EmbeddingBag))
    (first, *_) = (node for node in traced.graph.nodes if node.op == "placeholder")
    return any(_looks_up(model, node) for node in _parts_of(first))


def _parts_of(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that use a node, or what was cut out of it."""
    for user in node.users:
        yield user
        if user.target in _PARTS:
            yield from _parts_of(user)


def _looks_up(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), (nn.Embedding, nn.EmbeddingBag))
    return node.op == "call_function" and node.target in _LOOKUPS
