"""Where a model can be cut: the submodules at whose start exactly one tensor crosses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import fx, nn

from tbft.blocks.heads import head_node, mixes
from tbft.blocks.partition import can_be_made, free_of_parameters, needing
from tbft.blocks.tracing import Traced


@dataclass(frozen=True)
class Candidate:
    """A submodule at which a block can start, and what lies between it and the next one.

    Attributes:
        path: name of the submodule; empty for the input.
        parameter_count: trainable scalars.
        layer_count: layers with a weight matrix.
        forward_flops: of one sample; None: not counted.
        in_rear: whether the head, and nothing that mixes features before it, lies from here on.
    """

    path: str
    parameter_count: int
    layer_count: int
    forward_flops: float | None = None
    in_rear: bool = False


def find_candidates(model: nn.Module, traced: Traced) -> tuple[list[Candidate], list[str]]:
    """All submodules at which the model can be cut, in the order in which it runs them, after the input.

    And, of the model's own children, those at which more than one tensor crosses.

    Where several start with no parameters between them, the outermost stands for all of them, and of
    these the last, which mostly is the one with the smallest tensor to cross. What directly follows a
    layer and mixes nothing itself, such as its BatchNorm, stays with it.

    Args:
        traced: of the model, down to single layers.
    """
    nodes = list(traced.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    used = _parameters_of(model, traced)
    crossing = _crossing_counts(model, traced, nodes)
    found: dict[int, str] = {}
    crossed = []
    for path, starts in _starts(nodes).items():
        at = min(starts)
        if "." not in path and crossing[at] > 1:
            crossed.append(path)
        outer = at not in found or path.count(".") < found[at].count(".")
        if len(starts) == 1 and crossing[at] == 1 and outer and not _follows_layer(model, nodes[at]):
            found[at] = path
    head = head_node(model, traced)
    last = position[head] if head is not None else len(nodes)
    kept = _with_parameters(found, [sum(p.numel() for p in used[n]) for n in nodes])
    ends = [*kept[1:], len(nodes)]
    candidates = [
        Candidate(
            path=found[start] if start else "",
            parameter_count=sum(p.numel() for p in {p for n in nodes[start:end] for p in used[n]}),
            layer_count=sum(_is_mixing(model, n) for n in nodes[start:end]),
            in_rear=start > 0 and start <= last and not any(_is_mixing(model, n) for n in nodes[start:last]),
        )
        for start, end in zip(kept, ends, strict=True)
    ]
    return candidates, crossed


def _starts(nodes: Sequence[fx.Node]) -> dict[str, set[int]]:
    """Submodule -> the positions at which its calls start."""
    calls: dict[tuple[str, str], int] = {}  # a submodule and which of its calls -> where that starts
    for i, node in enumerate(nodes):
        for call, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            if path:
                calls.setdefault((path, str(call)), i)
    found: dict[str, set[int]] = {}
    for (path, _), at in calls.items():
        found.setdefault(path, set()).add(at)
    return found


def _parameters_of(model: nn.Module, traced: Traced) -> dict[fx.Node, list[nn.Parameter]]:
    """The trainable parameters that each node uses; all parameters, if none is trainable."""
    frozen = not any(p.requires_grad for p in model.parameters())
    found: dict[fx.Node, list[nn.Parameter]] = {}
    for node in traced.graph.nodes:
        used: list[object] = []
        if node.op == "call_module":
            used = list(model.get_submodule(str(node.target)).parameters())
        elif node.op == "get_attr":
            used = [traced.tensors[str(node.target)]]
        found[node] = [p for p in used if isinstance(p, nn.Parameter) and (p.requires_grad or frozen)]
    return found


def _crossing_counts(model: nn.Module, traced: Traced, nodes: Sequence[fx.Node]) -> list[int]:
    """How many values cross each position of the graph; a parameter used on both sides counts as two."""
    free = free_of_parameters(traced)
    position = {node: i for i, node in enumerate(nodes)}
    steps = [0] * (len(nodes) + 1)

    def cross(first: int, last: int, weight: int) -> None:
        if last > first:
            steps[first + 1] += weight
            steps[last + 1] -= weight

    places_of: dict[int, list[int]] = {}  # where a tensor of the model is used, by its id
    for node in nodes:
        users = [position[user] for user in needing(node)]
        if node.op == "get_attr" and node not in free:
            places_of.setdefault(id(traced.tensors[str(node.target)]), []).extend(users)
        elif users and not can_be_made(node, free):
            cross(position[node], max(users), 1)
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            for tensor in (*module.parameters(), *module.buffers()):
                places_of.setdefault(id(tensor), []).append(position[node])
    for places in filter(None, places_of.values()):
        cross(min(places), max(places), 2)
    counts, total = [], 0
    for step in steps[: len(nodes)]:
        total += step
        counts.append(total)
    return counts


def _with_parameters(found: Mapping[int, str], sizes: Sequence[int]) -> list[int]:
    """The starts, the input's first, between any two of which there are parameters."""
    before = list(accumulate(sizes, initial=0))
    alike: dict[int, list[int]] = {}  # parameters before -> the starts with that many before them
    for start in sorted(found):
        if 0 < before[start] < before[-1]:
            alike.setdefault(before[start], []).append(start)
    return [0, *(min(starts, key=lambda at: (found[at].count("."), -at)) for starts in alike.values())]


def _follows_layer(model: nn.Module, node: fx.Node) -> bool:
    """Whether a node only processes the output of a layer, and is not a layer itself."""
    sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
    return not _is_mixing(model, node) and len(sources) == 1 and _is_mixing(model, sources[0])


def _is_mixing(model: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and mixes(model.get_submodule(str(node.target)))
