"""Every tensor in a checkpoint under one name, such as ``state_dict.model.conv1.weight``.

So a container (``state_dict``), a wrapper (``module``) and a trainer's name for the network (``model``) are
one thing: a prefix, which is found by the model's own names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from tbft.models.file_content import Placeholder

#: Segments that wrappers put into the names of what they wrap, anywhere in the model.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
#: Only a file that is made to keep its reader busy holds more.
MAX_CONTAINERS = 200_000

#: Last segments of tensors that profilers and counters leave in a state dict; no network computes with them.
LEFTOVERS = ("total_ops", "total_params", "n_averaged", "num_batches_tracked")

_NO_MODULE: Mapping[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}


@dataclass
class NamedTensors:
    """All tensors of a checkpoint.

    Attributes:
        tensors: full name -> tensor.
        containers: full name -> the name of the mapping it lies in, with a dot; empty for the outermost.
        versions: what torch notes of a state dict's modules for its conversions, by full name.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)

    def under(self, key: str) -> NamedTensors:
        """Those under one key, without it."""
        start = f"{key}."
        cut: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda names: {  # noqa: E731
            name.removeprefix(start): value for name, value in names.items() if name.startswith(start)
        }
        containers = {name: place.removeprefix(start) for name, place in cut(self.containers).items()}
        return NamedTensors(cut(self.tensors), containers, cut(self.versions))

    def outermost(self) -> NamedTensors:
        """Those that lie in no container."""
        names = [name for name, place in self.containers.items() if not place]
        return NamedTensors({n: self.tensors[n] for n in names}, dict.fromkeys(names, ""), self.versions)

    def renamed(self, rename: Callable[[str], str]) -> NamedTensors:
        """The same under other names; containers keep theirs."""
        return NamedTensors(
            {rename(name): tensor for name, tensor in self.tensors.items()},
            {rename(name): place for name, place in self.containers.items()},
            {rename(name): version for name, version in self.versions.items()},
        )

    def summary(self) -> str:
        """The containers and how many tensors each holds, such as ``state_dict (16)``."""
        counts = Counter(place.removesuffix(".") or "the file itself" for place in self.containers.values())
        shown = [f"{place} ({count})" for place, count in counts.most_common(6)]
        return ", ".join(shown) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")


def named_tensors(root: Any) -> NamedTensors:
    """Every tensor that can be reached from `root` through mappings, sequences and placeholders.

    Raises:
        RecursionError: containers in containers without end.
    """
    found = NamedTensors()
    _collect(root, "", found, frozenset(), count())
    return found


def prefixes(names: Collection[str], own: Collection[str]) -> Counter[str]:
    """How many of a model's `own` names every prefix in a file leads to.

    >>> prefixes(["net.module.fc.bias", "net.module.fc.weight", "loss.weight"], {"fc.bias", "fc.weight"})
    Counter({'net.module.': 2})
    """
    found: Counter[str] = Counter()
    for name in names:
        start = 0
        while True:
            if name[start:] in own:
                found[name[:start]] += 1
            dot = name.find(".", start)
            if dot < 0:
                break
            start = dot + 1
    return found


def unwrapped(name: str) -> str:
    """A name without the segments of wrappers.

    >>> unwrapped("module.layer1._orig_mod.conv.weight")
    'layer1.conv.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def is_leftover(name: str) -> bool:
    """Whether such a tensor is left behind by a profiler or a counter."""
    return name.rpartition(".")[2] in LEFTOVERS


def with_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the BatchNorm counters that old checkpoints lack, as zero."""
    complete = {}
    for key, tensor in state.items():
        complete[key] = tensor
        counter = key.removesuffix("running_var") + "num_batches_tracked"
        if key.endswith("running_var") and counter not in state:
            complete[counter] = torch.zeros((), dtype=torch.long)
    return complete


def _collect(
    node: Any, place: str, found: NamedTensors, above: frozenset[int], visits: Iterator[int]
) -> None:
    if id(node) in above:  # a cycle
        return
    if next(visits) > MAX_CONTAINERS:
        raise RecursionError("its containers nest without end")
    versions = getattr(node, "_metadata", None)
    if isinstance(versions, Mapping):
        found.versions |= {place + str(key): value for key, value in versions.items()}
    for key, value in _children(node):
        if isinstance(value, Tensor):
            sparse = value.layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
            found.tensors[place + key] = value.detach().to_dense() if sparse else value.detach()
            found.containers[place + key] = place
        elif isinstance(value, (Mapping, list, tuple, Placeholder)):
            _collect(value, f"{place}{key}.", found, above | {id(node)}, visits)


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Placeholder):
        if (attributes := _module_attributes(node)) is not None:
            yield from _module_state(attributes)
            return
        for part in (node.state, *node.args):
            if isinstance(part, (Mapping, list, tuple)):
                yield from _children(part)
    elif isinstance(node, Mapping):
        yield from ((str(key), value) for key, value in node.items() if isinstance(key, (str, int)))
    elif isinstance(node, (list, tuple)):
        yield from ((str(i), value) for i, value in enumerate(node))


def _module_attributes(node: Any) -> Mapping[str, Any] | None:
    """The attributes of a module that was pickled whole; None for anything else."""
    state = node.state if isinstance(node, Placeholder) else None
    is_module = isinstance(state, Mapping) and {"_parameters", "_modules", "_buffers"} <= state.keys()
    return state if is_module else None


def _module_state(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """What ``state_dict`` would give for a module that was pickled whole."""
    hidden = attributes.get("_non_persistent_buffers_set") or ()
    tensors = {**attributes["_parameters"], **attributes["_buffers"]}
    yield from ((key, value) for key, value in tensors.items() if value is not None and key not in hidden)
    for name, child in attributes["_modules"].items():
        inside = _module_attributes(child)
        yield from ((f"{name}.{key}", value) for key, value in _module_state(inside or _NO_MODULE))
