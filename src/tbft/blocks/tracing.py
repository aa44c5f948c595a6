"""A model's graph, cut into stages: what :func:`tbft.blocks.blocks.split` stands on.

The graph is traced through the parents of the cuts alone. A node belongs to the block whose cut was
called last before it; exactly one node's value may pass from one block to the next.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import fx, nn

from tbft.blocks.state import modes_restored
from tbft.errors import SplitError


class _ShallowTracer(fx.Tracer):
    """Traces the parents of the cuts; every other submodule stays one call."""

    def __init__(self, cuts: Sequence[str]) -> None:
        super().__init__()
        parts = [cut.split(".") for cut in cuts]
        self.parents = {".".join(p[:i]) for p in parts for i in range(1, len(p))}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.parents


def trace(model: nn.Module, cuts: Sequence[str]) -> fx.Graph:
    """The model's graph; refused where training and evaluation mode run different code."""
    tracer = _ShallowTracer(cuts)
    traced = [model, *(model.get_submodule(name) for name in sorted(tracer.parents))]
    graphs = []
    with modes_restored(model):
        for training in (True, False):
            for module in traced:
                module.training = training
            graphs.append(_traced_once(tracer, model))
    if str(graphs[0]) != str(graphs[1]):
        raise SplitError(
            f"{type(model).__name__}.forward runs other code in training than in evaluation mode; "
            "move that into a submodule (nn.Dropout, say), or give a list of (name, module)"
        )
    graph = graphs[1]
    used = [n for n in graph.nodes if n.op == "placeholder" and n.users]
    if len(used) != 1:
        inputs = ", ".join(repr(n.target) for n in used) or "none"
        raise SplitError(f"the model has to take exactly one tensor; it uses the inputs: {inputs}")
    return graph


def _traced_once(tracer: fx.Tracer, model: nn.Module) -> fx.Graph:
    try:
        return tracer.trace(model)
    except Exception as error:  # whatever the user's forward raises on a symbolic input
        where = inspect.unwrap(type(model).forward).__qualname__
        raise SplitError(
            f"{where} cannot be traced ({type(error).__name__}: {error}); "
            "give the model as nn.Sequential or as a list of (name, module)"
        ) from error


def starts_of(graph: fx.Graph, cuts: Sequence[str]) -> list[int]:
    """Position in the graph at which each cut's submodule is called."""
    nodes = list(graph.nodes)
    starts = []
    for cut in cuts:
        calls = [i for i, n in enumerate(nodes) if n.op == "call_module" and n.target == cut]
        # A cut that holds a later cut was traced through; it starts at the first thing it does.
        inside = [i for i, n in enumerate(nodes) if cut in _module_paths(n)]
        if len(calls) > 1 or not inside:
            times = f"called {len(calls)} times" if calls else "never called"
            raise SplitError(f"cannot cut at {cut!r}: it is {times} in the model's forward, not once")
        starts.append(inside[0])
    if starts != sorted(starts):
        ordered = [cut for _, cut in sorted(zip(starts, cuts, strict=True))]
        raise SplitError(f"the cuts are not in the order the model runs them; use {', '.join(ordered)}")
    return starts


def _module_paths(node: fx.Node) -> list[str]:
    """Names of the submodules a node runs in, outermost first; a called submodule counts as one."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]


def owners_of(graph: fx.Graph, starts: Sequence[int], names: Sequence[str]) -> dict[fx.Node, int]:
    """The block of each node; a directly used parameter or buffer belongs with its only user."""
    owner = {node: bisect_right(starts, i) for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op == "get_attr" and node.users:
            users = sorted({owner[user] for user in node.users})
            if len(users) > 1:
                raise SplitError(
                    f"{node.target!r} is used in the blocks {names[users[0]]!r} and {names[users[-1]]!r}; "
                    "a block has to own its parameters"
                )
            owner[node] = users[0]
    for k, name in enumerate(names):
        if not any(b == k and n.op not in ("placeholder", "output") for n, b in owner.items()):
            raise SplitError(f"block {name!r} would be empty: nothing runs in it; leave out its cut")
    return owner


def crossing_at(graph: fx.Graph, owner: Mapping[fx.Node, int], k: int, cut: str) -> fx.Node:
    """The one node whose value passes from before block `k` to block `k` or later."""
    crossing = [n for n in graph.nodes if owner[n] < k and any(owner[user] >= k for user in n.users)]
    if len(crossing) == 1:
        return crossing[0]
    entry = next(n for n in graph.nodes if cut in _module_paths(n))
    skips = [n for n in crossing if n not in entry.all_input_nodes] or crossing[1:]
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
    paths = [path for path in _module_paths(node) if path]
    return f"{node.name!r} in {paths[-1]!r}" if paths else f"{node.name!r} in the model's forward"


def stages_of(
    model: nn.Module, graph: fx.Graph, owner: Mapping[fx.Node, int], crossings: Sequence[fx.Node]
) -> list[nn.Module]:
    """One module a block, on the model's own submodules."""
    entry = next(n for n in graph.nodes if n.op == "placeholder" and n.users)
    (result,) = next(n for n in graph.nodes if n.op == "output").args
    if not isinstance(result, fx.Node):
        raise SplitError("the model has to return one tensor, not a tuple, list or dict")
    bounds = [entry, *crossings, result]
    stages: list[nn.Module] = []
    for k, (start, end) in enumerate(pairwise(bounds)):
        stage = fx.Graph()
        copies = {start: stage.placeholder("x")}
        for node in graph.nodes:
            if owner[node] == k and node.op not in ("placeholder", "output"):
                copies[node] = stage.node_copy(node, copies.__getitem__)
        stage.output(copies[end])
        stages.append(fx.GraphModule(model, stage, f"Block{k}"))
    return stages
