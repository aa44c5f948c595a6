"""The stages of a model whose graph is cut into blocks: one module per block, to be run in turn."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from tbft.blocks.inputs import Inputs, tensors_of
from tbft.blocks.partition import Partition, is_batch_size, is_device, read_from
from tbft.blocks.tracing import Traced
from tbft.errors import SplitError

#: The key of the tensor that crosses a cut, where inputs pass beside it.
CROSSING = "crossing"

#: Functions behind ``x += 1`` and the like.
IN_PLACE = {f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "and", "or", "xor")}
IN_PLACE.add("setitem")


def stages_of(
    model: nn.Module, traced: Traced, parts: Partition, example: Inputs | None
) -> list[fx.GraphModule]:
    """One module per block, on the model's own submodules and tensors.

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
    """The graph of one block under construction; values from other blocks are looked up in what enters it."""

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
        self._copy(node)
        return self.copies[node]

    def _copy(self, node: fx.Node) -> None:
        if node in self.copies:
            return
        source = read_from(node)
        if self.main is not None and source is not None and self.parts.owner[source] != self.k:
            if is_device(node):
                self.copies[node] = self.graph.call_function(getattr, (self.main, "device"))
            elif is_batch_size(node):
                self.copies[node] = self.graph.call_method("size", (self.main, 0))
            else:
                self.copies[node] = self.graph.call_function(getattr, (self.main, "shape"))
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
