"""Split a model into consecutive blocks; train one of them, and give everything back.

    blocks = split(model, cuts=["layer2", "layer3", "fc"])
    with blocks.only("layer2"):
        ...                       # gradients, modes and statistics of layer2 alone

A *cut* is the submodule at which a new block starts; exactly one tensor crosses it. Every
state-dict key, BatchNorm buffers included, belongs to exactly one block. The stages run the
user's own parameters and, in a row, equal ``model(x)`` bit for bit.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tbft.errors import SplitError, unknown

TRACKS = ("all", "tuned", "none")


@dataclass(frozen=True)
class Block:
    """One of the consecutive parts of a model."""

    name: str
    index: int
    cut: str | None  # submodule at which it starts; None for the first block
    keys: tuple[str, ...]  # state-dict keys, buffers included
    parameter_count: int  # trainable scalars; buffers do not count
    size_bytes: int  # of every tensor under `keys`


class Blocks:
    """A model cut into blocks. Made by :func:`split`.

    `block(k)`, `prefix(k)` and `suffix(k)` are modules to call on a tensor; `k` is an index or a
    block's name. They share the model's own parameters, so training a stage trains the model.
    """

    def __init__(self, model: nn.Module, stages: Sequence[nn.Module], infos: Sequence[Block]) -> None:
        self.model = model
        self.infos = tuple(infos)
        self._stages = tuple(stages)

    def __len__(self) -> int:
        return len(self.infos)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.infos)

    def __repr__(self) -> str:
        parts = ", ".join(f"{b.name} ({b.parameter_count:,})" for b in self.infos)
        return f"Blocks({type(self.model).__name__}: {parts})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(b.name for b in self.infos)

    @property
    def cuts(self) -> tuple[str, ...]:
        """The submodules at which the second and later blocks start."""
        return tuple(b.cut for b in self.infos if b.cut is not None)

    @property
    def head(self) -> str:
        """The arm that is the last layer alone: its name, or the rear block's if that is all there is."""
        rear = self.infos[-1]
        layers = list(OrderedDict.fromkeys(key.rpartition(".")[0] for key in rear.keys))
        stage = self._stages[-1]
        assert isinstance(stage, fx.GraphModule)
        # The last that runs, which need not be the last that was registered.
        for node in reversed(stage.graph.nodes):
            inside = [name for name in layers if f"{name}.".startswith(f"{node.target}.")]
            if node.op == "call_module" and inside:
                return inside[-1] if len(layers) > 1 else rear.name
        return rear.name

    def index(self, k: int | str) -> int:
        """Position of a block given by name or index (negative ones count from the end)."""
        if isinstance(k, str):
            if k not in self.names:
                raise SplitError(unknown("block", k, self.names))
            return self.names.index(k)
        if not -len(self) <= k < len(self):
            raise SplitError(f"block {k} does not exist: the model has {len(self)} blocks")
        return k % len(self)

    def block(self, k: int | str) -> nn.Module:
        """The stage that is block `k`."""
        return self._stages[self.index(k)]

    def prefix(self, k: int | str) -> nn.Module:
        """Everything before block `k`; the identity for the first."""
        return nn.Sequential(*self._stages[: self.index(k)])

    def suffix(self, k: int | str) -> nn.Module:
        """Everything after block `k`; the identity for the last."""
        return nn.Sequential(*self._stages[self.index(k) + 1 :])

    def block_of(self, arm: str) -> Block | None:
        """The block an arm tunes; None for `none`, `adabn` and `full`, which tune no single one.

        An arm is also the name of a submodule that lies inside one block, such as the paper's
        ``fc``, which is the rear block without its BatchNorm.
        """
        if arm in ("none", "adabn", "full"):
            return None
        if arm in self.names:
            return self.infos[self.names.index(arm)]
        owners = {b.index for b in self.infos for key in b.keys if key.startswith(arm + ".")}
        if len(owners) == 1:
            return self.infos[owners.pop()]
        if owners:
            names = " and ".join(repr(self.infos[i].name) for i in sorted(owners))
            raise SplitError(f"{arm!r} lies in the blocks {names}; name one block, or a submodule inside one")
        raise SplitError(unknown("arm", arm, ["none", "adabn", *self.names, "full"]))

    def tuned_modules(self, arm: str) -> list[nn.Module]:
        """The outermost modules whose parameters an arm trains; empty for `none` and `adabn`."""
        if arm in ("none", "adabn"):
            return []
        if arm == "full":
            return [self.model]
        block = self.block_of(arm)
        assert block is not None
        return [self.block(block.index) if arm == block.name else self.model.get_submodule(arm)]

    @contextmanager
    def only(self, arm: str, track: str = "tuned") -> Iterator[list[nn.Parameter]]:
        """Make one arm trainable and freeze the rest; undo all of it on exit.

        Frozen means: `requires_grad` is off and the module is in evaluation mode. `track` says
        whose BatchNorm statistics follow the data: those of the `tuned` part, `all`, or `none`.
        Flags, modes and gradients come back as they were, also after an exception.

        Yields:
            The parameters to give to the optimiser.
        """
        if track not in TRACKS:
            raise SplitError(unknown("tracking policy", track, TRACKS))
        tuned = self.tuned_modules(arm)
        with modes_restored(self.model), flags_restored(self.model):
            self.model.requires_grad_(False)
            self.model.eval()
            for module in tuned:
                module.requires_grad_(True)
                module.train()
            if track != "tuned":
                for norm in batch_norms(self.model):
                    norm.train(track == "all")
            yield list(OrderedDict.fromkeys(p for module in tuned for p in module.parameters()))


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers in `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Give every module its training or evaluation mode back on exit."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def flags_restored(model: nn.Module) -> Iterator[None]:
    """Give every parameter its `requires_grad` and its gradient back on exit."""
    flags = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for p, _, _ in flags:
        p.grad = None
    try:
        yield
    finally:
        for p, requires_grad, grad in flags:
            p.requires_grad_(requires_grad)
            p.grad = grad


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; the modes come back on exit."""
    with modes_restored(model), torch.no_grad():
        model.eval()
        yield


@contextmanager
def values_restored(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Give every tensor of the state dict its values back on exit, in place; yields the saved copy."""
    saved = clone_state(model)
    try:
        yield saved
    finally:
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                tensor.copy_(saved[key])


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict that later training does not touch."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


# --- splitting -------------------------------------------------------------------------------


def split(
    model: nn.Module | Sequence[tuple[str, nn.Module]],
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    example: Tensor | None = None,
) -> Blocks:
    """Cut a model into blocks.

    Args:
        model: a module, or a list of ``(name, module)`` to run in a row, one block each. A module
            is traced with ``torch.fx``, but only through the parents of the cuts, so whatever
            lies deeper may be as dynamic as it likes.
        cuts: names of the submodules at which the second and later blocks start, in the order in
            which the model runs them. Default: what the model declares as ``cuts``; an
            ``nn.Sequential`` without such a declaration is cut at each child.
        names: one name a block. Default: what the model declares as ``block_names``, else
            ``front`` and the names of the cuts.
        example: a batch; if given, the stages are run on it and compared with the model.

    Raises:
        SplitError: an unknown cut, a tensor that skips across a cut, a parameter used in two
            blocks, or a model that cannot be traced.

    >>> model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 4, 3), relu=nn.ReLU(), fc=nn.Flatten()))
    >>> split(model, cuts=["fc"]).names
    ('front', 'fc')
    """
    if not isinstance(model, nn.Module):
        model = sequential(model)
    declared = cuts is None
    if cuts is None:
        cuts = _declared_cuts(model)
    if names is None:
        names = (declared and getattr(model, "block_names", None)) or ["front", *cuts]
    _check_names(model, cuts, names)
    graph = _trace(model, cuts)
    starts = _starts(graph, cuts)
    owner = _owners(graph, starts, [str(n) for n in names])
    crossings = [_crossing(graph, owner, k, cut) for k, cut in enumerate(cuts, start=1)]
    stages = _stages(model, graph, owner, crossings)
    blocks = Blocks(model, stages, _describe(model, graph, owner, list(cuts), list(names)))
    if example is not None:
        _check_example(blocks, example)
    return blocks


def sequential(parts: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    """A list of ``(name, module)`` as one model that declares each of them a block."""
    try:
        names = [str(name) for name, _ in parts]
        model = nn.Sequential(OrderedDict(parts))
    except (TypeError, ValueError, KeyError) as error:
        message = f"give a module or a list of (name, module) pairs, names without dots: {error}"
        raise SplitError(message) from error
    if len(model) != len(names):
        raise SplitError(f"two blocks in the list have the same name: {', '.join(names)}")
    model.block_names = tuple(names)  # type: ignore[assignment]
    return model


def _declared_cuts(model: nn.Module) -> Sequence[str]:
    declared = getattr(model, "cuts", None)
    if declared is not None:
        return tuple(declared)
    if isinstance(model, nn.Sequential):
        return [name for name, _ in model.named_children()][1:]
    children = ", ".join(name for name, _ in model.named_children())
    raise SplitError(
        f"{type(model).__name__} declares no cuts: give the submodules at which new blocks start, "
        f"for example from {children}"
    )


def _check_names(model: nn.Module, cuts: Sequence[str], names: Sequence[str]) -> None:
    known = [name for name, _ in model.named_modules() if name]
    for cut in cuts:
        if cut not in known:
            raise SplitError(unknown("cut", cut, known))
    if len(set(cuts)) != len(cuts):
        raise SplitError(f"a cut is named twice: {', '.join(cuts)}")
    if len(names) != len(cuts) + 1:
        raise SplitError(f"{len(cuts)} cuts make {len(cuts) + 1} blocks, but {len(names)} names were given")
    if len(set(names)) != len(names):
        raise SplitError(f"a block name is used twice: {', '.join(names)}")
    if reserved := {"none", "adabn", "full"} & set(names):
        raise SplitError(f"{reserved.pop()!r} names an arm of its own and cannot name a block")


class _ShallowTracer(fx.Tracer):
    """Traces the parents of the cuts; every other submodule stays one call."""

    def __init__(self, cuts: Sequence[str]) -> None:
        super().__init__()
        parts = [cut.split(".") for cut in cuts]
        self.parents = {".".join(p[:i]) for p in parts for i in range(1, len(p))}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.parents


def _trace(model: nn.Module, cuts: Sequence[str]) -> fx.Graph:
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


def _starts(graph: fx.Graph, cuts: Sequence[str]) -> list[int]:
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


def _owners(graph: fx.Graph, starts: Sequence[int], names: Sequence[str]) -> dict[fx.Node, int]:
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


def _crossing(graph: fx.Graph, owner: Mapping[fx.Node, int], k: int, cut: str) -> fx.Node:
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


def _stages(
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


def _describe(
    model: nn.Module, graph: fx.Graph, owner: Mapping[fx.Node, int], cuts: list[str], names: list[str]
) -> list[Block]:
    """Assign every state-dict key to the block that uses its tensor."""
    state: Mapping[str, Any] = model.state_dict(keep_vars=True)
    used: dict[int, int] = {}  # id of tensor -> block; a tied tensor is one tensor under two keys
    for node in graph.nodes:
        for key in _keys_of(node, state):
            first = used.setdefault(id(state[key]), owner[node])
            if first != owner[node]:
                raise SplitError(
                    f"{key!r} is used in the blocks {names[first]!r} and {names[owner[node]]!r}; "
                    "a block has to own its parameters"
                )
    keys: list[list[str]] = [[] for _ in names]
    current = 0
    for key, tensor in state.items():
        # A key no stage uses (an unused head) stays with the key registered before it.
        current = used.get(id(tensor), current)
        keys[current].append(key)
    parameters = {id(p) for p in model.parameters()}
    return [
        Block(
            name=names[k],
            index=k,
            cut=cuts[k - 1] if k else None,
            keys=tuple(keys[k]),
            parameter_count=sum(state[key].numel() for key in keys[k] if id(state[key]) in parameters),
            size_bytes=sum(state[key].numel() * state[key].element_size() for key in keys[k]),
        )
        for k in range(len(names))
    ]


def _keys_of(node: fx.Node, state: Mapping[str, Any]) -> list[str]:
    if node.op == "get_attr":
        return [key for key in state if key == node.target]
    if node.op == "call_module":
        return [key for key in state if key.startswith(f"{node.target}.")]
    return []


def _check_example(blocks: Blocks, example: Tensor) -> None:
    """Run model and stages on `example`, in evaluation mode, and compare bit for bit."""
    with evaluating(blocks.model):
        expected = x = blocks.model(example)
        x = example
        for block in blocks:
            x = blocks.block(block.index)(x)
            if not isinstance(x, Tensor):
                raise SplitError(f"block {block.name!r} gives a {type(x).__name__}, not one tensor")
    if not torch.equal(x, expected):
        raise SplitError("the blocks in a row do not give the model's output; give a list of (name, module)")
