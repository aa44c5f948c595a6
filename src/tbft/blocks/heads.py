"""The head: the last layer that mixes features into logits; what only scales them after it is not one."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from tbft.blocks.tracing import Traced, module_paths


def head_node(model: nn.Module, traced: Traced) -> fx.Node | None:
    """The last node of a deep trace on the way to the output that has a weight matrix, if any has."""
    (output,) = (n for n in traced.graph.nodes if n.op == "output")
    leading = {output}
    for node in reversed(traced.graph.nodes):
        if node not in leading:
            continue
        leading.update(node.all_input_nodes)
        if node.op == "call_module" and mixes(model.get_submodule(str(node.target))):
            return node
        used = [n for n in node.all_input_nodes if n.op == "get_attr"]
        if any(_is_matrix(traced.tensors[str(n.target)]) for n in used):
            return node
    return None


def head_of(model: nn.Module, traced: Traced) -> str:
    """The name of the submodule that is the head; empty where the model itself is.

    >>> from tbft.blocks.tracing import trace_deep
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.PReLU(3), nn.Softmax(1))
    >>> head_of(model, trace_deep(model))
    '1'
    """
    node = head_node(model, traced)
    if node is None:
        return ""
    if node.op != "call_module":
        return (module_paths(node) or [""])[-1]
    return last_layer(model, str(node.target))


def last_layer(model: nn.Module, path: str = "") -> str:
    """The last registered layer with a weight matrix in a submodule of which nothing else is known."""
    found = path
    parametrized: list[str] = []
    for name, module in model.get_submodule(path).named_modules(prefix=path):
        if any(name.startswith(f"{parent}.") for parent in parametrized):
            continue
        if is_parametrized(module):
            parametrized.append(name)
        is_leaf = is_parametrized(module) or not any(True for _ in module.children())
        if is_leaf and mixes(module):
            found = name
    return found


def mixes(module: nn.Module) -> bool:
    """Whether a module has a weight matrix, rather than scales and shifts."""
    return isinstance(module, nn.Linear) or any(_is_matrix(p) for p in module.parameters())


def _is_matrix(tensor: object) -> bool:
    return isinstance(tensor, nn.Parameter) and sum(size > 1 for size in tensor.shape) > 1
