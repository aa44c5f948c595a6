"""Which block owns which key of a model's state dict: every key belongs to exactly one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from tbft.blocks.blocks import Block
from tbft.blocks.partition import Partition
from tbft.errors import SplitError


def describe(model: nn.Module, parts: Partition, cuts: Sequence[str], names: Sequence[str]) -> list[Block]:
    """Assign every state-dict key to the block that uses its tensor."""
    state: Mapping[str, Any] = model.state_dict(keep_vars=True)
    _check_state(model, state)
    used: dict[int, int] = {}  # id of tensor -> block; a tied tensor is one tensor under two keys
    for node in parts.graph.nodes:
        at = parts.owner[node]
        for key in _keys_of(node, state):
            first = used.setdefault(id(state[key]), at)
            # A buffer that several blocks read by themselves, such as a mask, is the first one's.
            if first != at and (node.op == "call_module" or isinstance(state[key], nn.Parameter)):
                raise SplitError(
                    f"{key!r} is used in the blocks {names[first]!r} and {names[at]!r}; "
                    "a block has to own its parameters"
                )
    keys: list[list[str]] = [[] for _ in names]
    current = 0
    for key, tensor in state.items():
        # A key no stage uses (an unused head) stays with the key registered before it.
        current = used.get(id(tensor), current)
        keys[current].append(key)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    frozen = {id(p) for p in model.parameters()} - trained
    return [
        Block(
            name=names[k],
            index=k,
            cut=cuts[k - 1] if k else None,
            keys=tuple(keys[k]),
            parameter_count=sum(state[key].numel() for key in keys[k] if id(state[key]) in trained),
            size_bytes=sum(state[key].numel() * state[key].element_size() for key in keys[k]),
            frozen_count=sum(state[key].numel() for key in keys[k] if id(state[key]) in frozen),
        )
        for k in range(len(names))
    ]


def own_all(model: nn.Module, name: str) -> Block:
    """The only block of a model that is run as a whole."""
    state: Mapping[str, Any] = model.state_dict(keep_vars=True)
    _check_state(model, state)
    trained = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    every = {id(p): p.numel() for p in model.parameters()}
    count = sum(trained.values())
    size = sum(t.numel() * t.element_size() for t in state.values())
    return Block(name, 0, None, tuple(state), count, size, sum(every.values()) - count)


def _check_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    for name, module in model.named_modules():
        if ".quantized." in f"{type(module).__module__}.":
            raise SplitError(
                f"{name or 'the model'} is quantized ({type(module).__name__}), and its weights cannot be "
                "tuned: adapt the float model that it was made of, apply the patch, and quantize it again"
            )
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise SplitError(
                f"{key!r} in the model's state is not a tensor, and could not be restored: "
                "keep it out of the state dict"
            )
        if value.layout != torch.strided or value.is_quantized:
            kind = "quantized" if value.is_quantized else "sparse"
            raise SplitError(
                f"{key!r} is {kind}, which a patch cannot hold: make it a dense float tensor first"
            )


def _keys_of(node: fx.Node, state: Mapping[str, Any]) -> list[str]:
    if node.op == "get_attr":
        return [key for key in state if key == node.target]
    if node.op == "call_module":
        return [key for key in state if key.startswith(f"{node.target}.")]
    return []
