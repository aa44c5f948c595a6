"""Split a model into consecutive blocks; train one of them, and restore everything.

    blocks = split(model, cuts=["layer2", "layer3", "fc"])
    with blocks.only("layer2"):
        ...                       # gradients, modes and statistics of layer2 alone

A *cut* is the submodule at which a new block starts; exactly one tensor crosses it. Every
state-dict key, BatchNorm buffers included, belongs to exactly one block. The stages run the
user's own parameters and, in a row, equal ``model(x)`` bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from tbft.blocks.arm import SOLVED, Arm
from tbft.blocks.heads import head_of, last_layer
from tbft.blocks.inputs import Inputs
from tbft.blocks.outputs import Output, Whole, logits_of
from tbft.blocks.state import batch_norms, flags_restored, modes_restored
from tbft.blocks.tracing import Traced, trace_deep
from tbft.errors import SplitError, unknown
from tbft.packing import Packing, packing_of

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

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[nn.Module],
        infos: Sequence[Block],
        traced: Traced,
        example: Inputs | None = None,
        output: Output = logits_of,
    ) -> None:
        self.model = model
        self.infos = tuple(infos)
        self.traced, self.example, self.output = traced, example, output
        self.checked: tuple[object, ...] | None = None  # for what the stages were compared with the model
        self.reached: dict[str, tuple[object, ...]] = {}  # arms that gradients reach, and for what
        self.finer: dict[str, tuple[Blocks, int]] = {}  # the same model cut where an arm starts
        self._stages = tuple(stages)

    def __len__(self) -> int:
        return len(self.infos)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.infos)

    def __repr__(self) -> str:
        parts = ", ".join(f"{b.name} ({b.parameter_count:,})" for b in self.infos)
        return f"Blocks({type(self.model).__name__}: {parts})"

    @property
    def packing(self) -> Packing | None:
        """How samples hold the inputs of a model that takes several; None: it takes one tensor."""
        several = self.example is not None and not isinstance(self.example, Tensor)
        return packing_of(self.example) if several else None  # type: ignore[arg-type]

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
        owned = {key for key in rear.keys if key.startswith(f"{self.head_layer}.")}
        # With fewer layers than two in the rear, both are the same arm.
        return self.head_layer if self.head_layer and owned and owned != set(rear.keys) else rear.name

    @cached_property
    def head_layer(self) -> str:
        """The submodule that is the last layer; empty where the model itself is."""
        if self.traced.opaque:
            return self.traced.head
        try:
            return head_of(self.model, trace_deep(self.model, self.example, self.output))
        except SplitError:
            return last_layer(self.model)

    @cached_property
    def whole(self) -> nn.Module:
        """The model as a module from a batch to logits: the model itself, if that is what it is."""
        if self.traced.opaque:
            return self._stages[0]
        return Whole(self.model, self.output, self.packing) if self.traced.adapted else self.model

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
        """Block `k` and everything after it; the whole model for the first."""
        return nn.Sequential(*self._stages[self.index(k) :]) if self.index(k) else self.whole

    def block_of(self, arm: Arm | str) -> Block | None:
        """The block an arm tunes; None for `none`, `adabn`, `full` and arms in several blocks.

        An arm is also the name of a submodule that lies inside one block, such as the paper's
        ``fc``, which is the rear block without its BatchNorm; or two of these, as in ``front+fc``.
        """
        owners = dict.fromkeys(self._owner(part) for part in self.named(arm).parts)
        return next(iter(owners)) if len(owners) == 1 else None

    def named(self, arm: Arm | str) -> Arm:
        """The arm by this model's names: ``head`` is the last layer, unless a part is called so."""
        arm = Arm.of(arm)
        taken = "head" in self.names or any(key.startswith("head.") for b in self.infos for key in b.keys)
        if "head" not in arm.parts or taken:
            return arm
        return Arm.of("+".join(self.head if part == "head" else part for part in arm.parts))

    def owners(self, arm: Arm | str) -> list[Block]:
        """The block of each part of an arm; all of them for `full`, none for `none` and `adabn`."""
        arm = self.named(arm)
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
        raise SplitError(
            unknown("arm", part, ["none", "adabn", *self.names, "head", "full", *sorted(SOLVED)])
        )

    def tuned_modules(self, arm: Arm | str) -> list[nn.Module]:
        """The outermost modules whose parameters an arm trains; empty for `none` and `adabn`."""
        arm = self.named(arm)
        if arm.is_full:
            return [self.model]
        if arm.solves:
            return [self.model.get_submodule(self.head_layer)]
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
    def only(
        self, arm: Arm | str, track: str = "tuned", along: Sequence[nn.Parameter] = ()
    ) -> Iterator[list[nn.Parameter]]:
        """Make one arm trainable and freeze the rest; undo all of it on exit.

        Frozen means: `requires_grad` is off and the module is in evaluation mode. What the user froze
        stays so inside the arm, too. `track` says whose BatchNorm statistics follow the data: those of
        the `tuned` part, `all`, or `none`. Flags, modes and gradients come back as they were, also after
        an exception. Parameters `along` with the arm's are trained, too.

        Yields:
            The parameters to give to the optimizer; none where all are frozen.
        """
        if track not in TRACKS:
            raise SplitError(unknown("tracking policy", track, TRACKS))
        tuned, trained = self.tuned_modules(arm), [*self.trainable(arm), *along]
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
