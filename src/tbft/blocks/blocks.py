"""Split a model into consecutive blocks; train one of them, and give everything back.

    blocks = split(model, cuts=["layer2", "layer3", "fc"])
    with blocks.only("layer2"):
        ...                       # gradients, modes and statistics of layer2 alone

A *cut* is the submodule at which a new block starts; exactly one tensor crosses it. Every
state-dict key, BatchNorm buffers included, belongs to exactly one block. The stages run the
user's own parameters and, in a row, equal ``model(x)`` bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tbft.blocks.arm import RESERVED, Arm
from tbft.blocks.state import batch_norms, evaluating, flags_restored, modes_restored
from tbft.blocks.tracing import crossing_at, owners_of, stages_of, starts_of, trace
from tbft.errors import SplitError, unknown

TRACKS = ("all", "tuned", "none")


@dataclass(frozen=True)
class Block:
    """One of the consecutive parts of a model."""

    name: str
    index: int
    cut: str | None  # submodule at which it starts; None for the first block
    keys: tuple[str, ...]  # state-dict keys, buffers included
    parameter_count: int  # trainable scalars; neither buffers nor what the user froze
    size_bytes: int  # of every tensor under `keys`
    frozen_count: int = 0  # scalars of parameters that the user froze


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

    def onward(self, k: int | str) -> nn.Module:
        """Block `k` and everything after it; the model itself for the first."""
        return nn.Sequential(*self._stages[self.index(k) :]) if self.index(k) else self.model

    def block_of(self, arm: Arm | str) -> Block | None:
        """The block an arm tunes; None for `none`, `adabn`, `full` and arms in several blocks.

        An arm is also the name of a submodule that lies inside one block, such as the paper's
        ``fc``, which is the rear block without its BatchNorm; or two of these, as in ``front+fc``.
        """
        owners = dict.fromkeys(self._owner(part) for part in Arm.of(arm).parts)
        return next(iter(owners)) if len(owners) == 1 else None

    def owners(self, arm: Arm | str) -> list[Block]:
        """The block of each part of an arm; all of them for `full`, none for `none` and `adabn`."""
        arm = Arm.of(arm)
        return list(self.infos) if arm.is_full else [self._owner(part) for part in arm.parts]

    def _owner(self, part: str) -> Block:
        if part in self.names:
            return self.infos[self.names.index(part)]
        owners = {b.index for b in self.infos for key in b.keys if key.startswith(part + ".")}
        if len(owners) == 1:
            return self.infos[owners.pop()]
        if owners:
            names = " and ".join(repr(self.infos[i].name) for i in sorted(owners))
            raise SplitError(
                f"{part!r} lies in the blocks {names}; name one block, or a submodule inside one"
            )
        raise SplitError(unknown("arm", part, ["none", "adabn", *self.names, "full"]))

    def tuned_modules(self, arm: Arm | str) -> list[nn.Module]:
        """The outermost modules whose parameters an arm trains; empty for `none` and `adabn`."""
        arm = Arm.of(arm)
        if arm.is_full:
            return [self.model]
        parts = zip(arm.parts, self.owners(arm), strict=True)
        return [
            self.block(block.index) if part == block.name else self.model.get_submodule(part)
            for part, block in parts
        ]

    def trainable(self, arm: Arm | str) -> list[nn.Parameter]:
        """The parameters that an arm trains; without those that the user froze, and without integers."""
        tuned = OrderedDict.fromkeys(p for module in self.tuned_modules(arm) for p in module.parameters())
        found = [p for p in tuned if p.requires_grad]
        if any(_is_expanded(p) for p in found):
            raise SplitError(
                f"{str(arm)!r} has a parameter made by expand(), which cannot be trained: clone() it"
            )
        return found

    @contextmanager
    def only(self, arm: Arm | str, track: str = "tuned") -> Iterator[list[nn.Parameter]]:
        """Make one arm trainable and freeze the rest; undo all of it on exit.

        Frozen means: `requires_grad` is off and the module is in evaluation mode. What the user froze
        stays so inside the arm, too. `track` says whose BatchNorm statistics follow the data: those of
        the `tuned` part, `all`, or `none`. Flags, modes and gradients come back as they were, also after
        an exception.

        Yields:
            The parameters to give to the optimizer; none where all are frozen.
        """
        if track not in TRACKS:
            raise SplitError(unknown("tracking policy", track, TRACKS))
        tuned, trained = self.tuned_modules(arm), self.trainable(arm)
        frozen = [m for m in self.model.modules() if _is_frozen(m)]
        with modes_restored(self.model), flags_restored(self.model):
            self.model.requires_grad_(False)
            self.model.eval()
            for p in trained:
                p.requires_grad_(True)
            for module in tuned:
                module.train()
            for module in frozen:
                module.training = False
            if track != "tuned":
                for norm in batch_norms(self.model):
                    norm.train(track == "all")
            yield trained


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and the user froze all of them."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def _is_expanded(tensor: Tensor) -> bool:
    return any(s == 0 and n > 1 for s, n in zip(tensor.stride(), tensor.shape, strict=True))


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
    graph = trace(model, cuts)
    starts = starts_of(graph, cuts)
    owner = owners_of(graph, starts, [str(n) for n in names])
    crossings = [crossing_at(graph, owner, k, cut) for k, cut in enumerate(cuts, start=1)]
    stages = stages_of(model, graph, owner, crossings)
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
    if reserved := RESERVED & set(names):
        raise SplitError(f"{min(reserved)!r} names an arm of its own and cannot name a block")


def _describe(
    model: nn.Module, graph: fx.Graph, owner: Mapping[fx.Node, int], cuts: list[str], names: list[str]
) -> list[Block]:
    """Assign every state-dict key to the block that uses its tensor."""
    state: Mapping[str, Any] = model.state_dict(keep_vars=True)
    if others := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise SplitError(
            f"{others[0]!r} in the model's state is no tensor, and could not be given back as it was: "
            "keep it out of the state dict"
        )
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
