"""A model's graph, cut into stages.

A node belongs to the block whose cut was called last before it; exactly one node's value may pass from one
block to the next. Besides it there may pass, untouched, inputs that later blocks need again, such as a mask.
"""

from __future__ import annotations

import builtins
import operator
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from tbft.blocks.tracing import Traced, module_paths
from tbft.errors import SplitError


def parents_of(cuts: Sequence[str]) -> list[str]:
    """The submodules in which cuts lie, through which a model is traced.

    >>> parents_of(["stem", "layers.2.conv"])
    ['layers', 'layers.2']
    """
    parts = [cut.split(".") for cut in cuts]
    return sorted({".".join(p[:i]) for p in parts for i in range(1, len(p))})


def starts_of(graph: fx.Graph, cuts: Sequence[str]) -> list[int]:
    """Position in the graph at which each cut's submodule is called."""
    nodes = list(graph.nodes)
    starts = []
    for cut in cuts:
        calls = [i for i, n in enumerate(nodes) if n.op == "call_module" and n.target == cut]
        # A cut that holds a later cut was traced through; it starts at the first thing it does.
        inside = [i for i, n in enumerate(nodes) if cut in module_paths(n)]
        if len(calls) > 1 or not inside:
            times = f"called {len(calls)} times" if calls else "never called"
            raise SplitError(f"cannot cut at {cut!r}: it is {times} in the model's forward, not once")
        starts.append(inside[0])
    if starts != sorted(starts):
        ordered = [cut for _, cut in sorted(zip(starts, cuts, strict=True))]
        raise SplitError(f"the cuts are not in the order the model runs them; use {', '.join(ordered)}")
    return starts


@dataclass(frozen=True, eq=False)
class Partition:
    """The nodes of a graph by block, and what passes between blocks.

    Attributes:
        owner: node -> position of its block.
        crossings: the node whose value enters each block after the first.
        sides: the inputs that pass beside it into each block after the first.
    """

    graph: fx.Graph
    owner: Mapping[fx.Node, int]
    crossings: tuple[fx.Node, ...]
    sides: tuple[tuple[fx.Node, ...], ...]


def partition(traced: Traced, cuts: Sequence[str], names: Sequence[str]) -> Partition:
    """Assign every node to a block.

    Raises:
        SplitError: a block would be empty, or more than one tensor crosses a cut.
    """
    graph = traced.graph
    owner = _owners(traced, starts_of(graph, cuts), names)
    free = free_of_parameters(traced)
    crossings, needed = [], []
    for k, cut in enumerate(cuts, start=1):
        across = [n for n in graph.nodes if owner[n] < k and any(owner[user] >= k for user in needing(n))]
        crossings.append(_the_one(graph, owner, [n for n in across if not can_be_made(n, free)], k, cut))
        needed.append({p for n in across if n in free for p in _placeholders_of(n)})
    sides = []
    for k in range(len(cuts)):  # what a later block needs passes through this one
        later = set().union(*needed[k:])
        sides.append(tuple(n for n in graph.nodes if n in later))
    return Partition(graph, owner, tuple(crossings), tuple(sides))


def _owners(traced: Traced, starts: Sequence[int], names: Sequence[str]) -> dict[fx.Node, int]:
    """The block of each node; a directly used tensor of the model belongs with its first user."""
    owner = {node: bisect_right(starts, i) for i, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        if node.op == "get_attr" and node.users:
            users = sorted({owner[user] for user in node.users})
            if len(users) > 1 and isinstance(traced.tensors[str(node.target)], nn.Parameter):
                raise SplitError(
                    f"{node.target!r} is used in the blocks {names[users[0]]!r} and {names[users[-1]]!r}; "
                    "a block has to own its parameters"
                )
            owner[node] = users[0]
    for k, name in enumerate(names):
        if not any(b == k and n.op not in ("placeholder", "output") for n, b in owner.items()):
            raise SplitError(f"block {name!r} would be empty: nothing runs in it; leave out its cut")
    return owner


def free_of_parameters(traced: Traced) -> set[fx.Node]:
    """The nodes that any block can compute from inputs that pass untouched: masks, positions, constants.

    A model with one input has constants alone: that input is what the blocks are there for.
    """
    inputs = [n for n in traced.graph.nodes if n.op == "placeholder" and n.users]
    found: set[fx.Node] = set(inputs) if len(inputs) > 1 else set()
    for node in traced.graph.nodes:
        if node.op == "get_attr" and not isinstance(traced.tensors[str(node.target)], nn.Parameter):
            found.add(node)
        if node.op in ("call_function", "call_method") and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def can_be_made(node: fx.Node, free: set[fx.Node]) -> bool:
    """Whether a block can make a value of an earlier block again, so that it need not cross the cut."""
    return node in free or _is_read_off(node)


def needing(node: fx.Node) -> list[fx.Node]:
    """The nodes that need the value of a node, and not just its device or number of samples."""
    return [user for user in node.users if not _is_read_off(user)]


def read_from(node: fx.Node) -> fx.Node | None:
    """The tensor whose device or number of samples a node reads, which all tensors of the batch share."""
    while _is_read_off(node):
        (node,) = node.all_input_nodes
        if node.op == "placeholder" or not _is_read_off(node):
            return node
    return None


def _is_read_off(node: fx.Node) -> bool:
    return is_device(node) or is_batch_size(node) or is_shape_for_batch_size(node)


def is_device(node: fx.Node) -> bool:
    """Whether a node reads a tensor's device."""
    return node.target is builtins.getattr and node.args[1] == "device"


def is_batch_size(node: fx.Node) -> bool:
    """Whether a node counts the samples of a batch, as every tensor that crosses does."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    source = node.args[0] if node.target is operator.getitem else None
    return isinstance(source, fx.Node) and node.args[1:] == (0,) and _is_shape(source)


def _is_shape(node: fx.Node) -> bool:
    method = node.op == "call_method" and node.target == "size" and len(node.args) == 1
    return method or (node.target is builtins.getattr and node.args[1] == "shape")


def is_shape_for_batch_size(node: fx.Node) -> bool:
    """Whether a node is a shape of which the size of the batch alone is used."""
    return _is_shape(node) and all(is_batch_size(user) for user in node.users)


def _placeholders_of(node: fx.Node) -> set[fx.Node]:
    if node.op == "placeholder":
        return {node}
    return set().union(*(_placeholders_of(n) for n in node.all_input_nodes))


def _the_one(
    graph: fx.Graph, owner: Mapping[fx.Node, int], crossing: Sequence[fx.Node], k: int, cut: str
) -> fx.Node:
    """The one node whose value passes from before block `k` to block `k` or later."""
    if len(crossing) == 1:
        return crossing[0]
    entry = next(n for n in graph.nodes if cut in module_paths(n))
    skips = [n for n in crossing if n not in entry.all_input_nodes] or list(crossing[1:])
    if not skips:
        raise SplitError(f"nothing crosses the cut at {cut!r}: what runs before it is not used after it")
    end = next(user for user in needing(skips[0]) if owner[user] >= k)
    raise SplitError(
        f"{len(crossing)} tensors cross the cut at {cut!r}, not one: besides its input, a skip connection "
        f"runs from {_where(skips[0])} to {_where(end)}; cut before or after both ends"
    )


def _where(node: fx.Node) -> str:
    """A node in the words of the model's author."""
    if node.op == "placeholder":
        return f"the model's input {node.target!r}"
    if node.op == "call_module":
        return repr(str(node.target))
    if node.op == "output":
        return "the model's output"
    paths = module_paths(node)
    return f"{node.name!r} in {paths[-1]!r}" if paths else f"{node.name!r} in the model's forward"
