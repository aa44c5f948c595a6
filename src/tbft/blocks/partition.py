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
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from tbft.blocks.inputs import Inputs, tensors_of
from tbft.blocks.tracing import Traced, module_paths
from tbft.errors import SplitError

#: The key of the tensor that crosses a cut, where inputs pass beside it.
CROSSING = "crossing"

#: Functions behind ``x += 1`` and the like.
IN_PLACE = {f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "and", "or", "xor")}
IN_PLACE.add("setitem")


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
        across = [n for n in graph.nodes if owner[n] < k and any(owner[user] >= k for user in n.users)]
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
    return node in free or _is_device(node) or _is_batch_size(node) or _is_shape_for_batch_size(node)


def _is_device(node: fx.Node) -> bool:
    return node.target is builtins.getattr and node.args[1] == "device"


def _is_batch_size(node: fx.Node) -> bool:
    """Whether a node counts the samples of a batch, as every tensor that crosses does."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    source = node.args[0] if node.target is operator.getitem else None
    return isinstance(source, fx.Node) and node.args[1:] == (0,) and _is_shape(source)


def _is_shape(node: fx.Node) -> bool:
    method = node.op == "call_method" and node.target == "size" and len(node.args) == 1
    return method or (node.target is builtins.getattr and node.args[1] == "shape")


def _is_shape_for_batch_size(node: fx.Node) -> bool:
    return _is_shape(node) and all(_is_batch_size(user) for user in node.users)


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
    end = next(user for user in skips[0].users if owner[user] >= k)
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


def stages_of(
    model: nn.Module, traced: Traced, parts: Partition, example: Inputs | None
) -> list[fx.GraphModule]:
    """One module a block, on the model's own submodules and tensors.

    Args:
        example: how the inputs of the first block are structured; None: one tensor.
    """
    stages = []
    for k in range(len(parts.crossings) + 1):
        graph = _Stage(model, traced, parts, k).built(example)
        root: dict[str, Any] = dict(traced.tensors)
        root |= {
            str(n.target): model.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"
        }
        stages.append(fx.GraphModule(root, graph, f"Block{k}"))
    return stages


class _Stage:
    """The graph of one block in the making; what other blocks computed is looked up in what enters it."""

    def __init__(self, model: nn.Module, traced: Traced, parts: Partition, k: int) -> None:
        self.model, self.traced, self.parts, self.k = model, traced, parts, k
        self.graph = fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self.main: fx.Node | None = None  # the tensor that enters; None in the first block

    def built(self, example: Inputs | None) -> fx.Graph:
        x = self.graph.placeholder("x")
        if self.k == 0:
            self._enter_inputs(x, example)
        else:
            self._enter_crossing(x)
        for node in self.parts.graph.nodes:
            if self.parts.owner[node] == self.k and node.op not in ("placeholder", "output"):
                self._copy(node)
        self._spare_inputs(x)
        (result,) = next(n for n in self.parts.graph.nodes if n.op == "output").args
        if self.k == len(self.parts.crossings):
            self.graph.output(self._of(result))
            return self.graph
        out: Any = self._of(self.parts.crossings[self.k])
        if sides := self.parts.sides[self.k]:
            out = {CROSSING: out, **{n.name: self._of(n) for n in sides}}
        self.graph.output(out)
        return self.graph

    def _enter_inputs(self, x: fx.Node, example: Inputs | None) -> None:
        if self.traced.sizes is not None:
            x = self.graph.call_function(_of_the_traced_size, (x, self.traced.sizes))
        inputs = [n for n in self.parts.graph.nodes if n.op == "placeholder"]
        for i, node in enumerate(inputs):
            if example is None or isinstance(example, Tensor):
                self.copies[node] = x
            elif node.users:
                key: Any = node.target if isinstance(example, Mapping) else i
                self.copies[node] = self.graph.call_function(operator.getitem, (x, key))

    def _enter_crossing(self, x: fx.Node) -> None:
        sides = self.parts.sides[self.k - 1]
        self.main = self.graph.call_function(operator.getitem, (x, CROSSING)) if sides else x
        self.copies[self.parts.crossings[self.k - 1]] = self.main
        for node in sides:
            self.copies[node] = self.graph.call_function(operator.getitem, (x, node.name))

    def _spare_inputs(self, x: fx.Node) -> None:
        """Let what overwrites its input work on a copy: what enters a block may be kept for other steps."""
        for entering in [n for n in (x, *x.users) if n.target is operator.getitem or n is x]:
            if any(_overwrites(self.model, user) for user in entering.users):
                with self.graph.inserting_after(entering):
                    copy = self.graph.call_method("clone", (entering,))
                entering.replace_all_uses_with(copy, delete_user_cb=partial(operator.is_not, copy))

    def _of(self, node: fx.Node) -> fx.Node:
        """The copy of a node; one of another block is made again from what enters this one."""
        if node not in self.copies:
            elsewhere = self.main is not None and self.parts.owner[node] != self.k
            if elsewhere and _is_device(node):
                self.copies[node] = self.graph.call_function(getattr, (self.main, "device"))
            elif elsewhere and _is_batch_size(node):
                self.copies[node] = self.graph.call_method("size", (self.main, 0))
            elif elsewhere and _is_shape_for_batch_size(node):
                self.copies[node] = self.graph.call_function(getattr, (self.main, "shape"))
            else:
                self._copy(node)
        return self.copies[node]

    def _copy(self, node: fx.Node) -> None:
        if node in self.copies:
            return
        copy = self.graph.node_copy(node, self._of)
        if node.meta.get("no_grad") and node.op.startswith("call"):
            copy = self.graph.call_function(_detached, (copy,))
        self.copies[node] = copy


def _overwrites(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node may write into what it is given: an operation in place, or starts with one."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        first = next((m for m in module.modules() if not any(True for _ in m.children())), module)
        return bool(getattr(first, "inplace", False))
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
    in_place = (name.endswith("_") and not name.endswith("__")) or name in IN_PLACE
    return in_place or bool(node.kwargs.get("inplace"))


def _detached(value: Any) -> Any:
    """What ran without gradients in the model: no gradient flows through it in its stage either."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(map(_detached, value))
    return value


def _of_the_traced_size(x: Inputs, sizes: tuple[tuple[int, ...], ...]) -> Inputs:
    """The inputs, if they have the sizes for which the model was traced."""
    found = tuple(tuple(t.shape[1:]) for t in tensors_of(x))
    if found != sizes:
        raise SplitError(
            f"what the model runs depends on the size of its inputs, and was traced for {sizes}: "
            f"for {found}, split it with an example of that size"
        )
    return x
