"""Which tensors of a checkpoint belong to a model, and why they may not fit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from tbft.errors import CheckpointError
from tbft.models.named_tensors import NamedTensors, is_leftover, prefixes, unwrapped

#: In a prefix: weights averaged over the steps of a training, which are those to deploy.
_AVERAGED = re.compile(r"(^|[._-])(ema\d*|swa|averaged?|avg|polyak|shadow)([._-]|$)")
#: In the first segment of a name: parts of a training run that the deployed network does not have.
_TRAINING_ONLY = re.compile(
    r"(^|_)(loss(es)?|criterion|metrics?|acc|accuracy|auroc|f1|aux\w*|teacher)(_|\d|$)"
)
#: In a prefix: tensors that have the names of weights and are not weights, such as an optimizer's averages.
_BOOKKEEPING = re.compile(
    r"(^|\.)(optim\w*|\w*scheduler\w*|loops|callbacks|scaler|grads?|gradients?|momentum\w*|exp_avg\w*|\d+)\."
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Match:
    """Tensors of a checkpoint that may be a model's weights.

    Attributes:
        prefix: what stands before the model's names in the file.
        state: by the model's names; the names that it lacks are among them.
        outside: full names of other tensors in the same mapping, such as a loss's.
        versions: as in :class:`NamedTensors`, by the model's names.
        note: how names were changed beyond the prefix, if they were.
    """

    prefix: str
    state: Mapping[str, Tensor]
    outside: tuple[str, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def averaged(self) -> bool:
        return is_averaged(self.prefix)

    @property
    def key(self) -> str:
        """As ``--weights-key`` takes it."""
        return self.prefix.removesuffix(".") or "."


@dataclass(frozen=True)
class Misfit:
    """Why tensors do not fit a model: names, or names with what is wrong; all empty if they do."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.types)

    def __str__(self) -> str:
        lists = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.shapes),
            ("of another type", self.types),
        )
        return "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in lists if names)


def is_averaged(prefix: str) -> bool:
    """Whether a prefix says that the weights under it are averages (EMA, SWA).

    >>> is_averaged("state_dict_ema."), is_averaged("schema.")
    (True, False)
    """
    return _AVERAGED.search(prefix.lower()) is not None


def is_bookkeeping(prefix: str) -> bool:
    """Whether tensors under a prefix are a trainer's own.

    >>> is_bookkeeping("optimizer_states.0.state."), is_bookkeeping("model.")
    (True, False)
    """
    return _BOOKKEEPING.search(prefix.lower()) is not None


def matches(named: NamedTensors, own: Collection[str]) -> list[Match]:
    """Every place in a checkpoint where tensors have names of the model, the likeliest first.

    Names are compared as they are; then without the segments of wrappers; then without a prefix that all of
    the model's own names share (the file is of the part under it).
    """
    found = []
    for names, known, own_name, note in _views(named, own):
        counts = prefixes(names.tensors, known)
        max_count = max(counts.values(), default=0)
        likely = [prefix for prefix, count in counts.most_common(20) if 2 * count >= max_count]
        found += [_match(names, prefix, known, own_name, note) for prefix in likely]
    return sorted(found, key=lambda match: sum(key in match.state for key in own), reverse=True)


def misfit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], constants: Mapping[str, Tensor] | None = None
) -> Misfit:
    """Why tensors do not fit a model.

    Args:
        own: the model's state dict.
        constants: its buffers outside the state dict; the file may hold them if their values are the same.
    """
    both = [key for key in own if key in state and not is_lazy(own[key])]
    return Misfit(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(
            key for key in state if key not in own and not may_be_left_out(key, state[key], constants or {})
        ),
        shapes=tuple(
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in both
            if not _same_shape(state[key], own[key])
        ),
        types=tuple(
            f"{key} {state[key].dtype} instead of {own[key].dtype}"
            for key in both
            if _same_shape(state[key], own[key]) and converted(state[key], own[key].dtype) is None
        ),
    )


def may_be_left_out(name: str, tensor: Tensor, constants: Mapping[str, Tensor]) -> bool:
    """Whether a tensor without a place in the model is one that it does not need."""
    if name in constants:
        return torch.equal(tensor.cpu(), constants[name].cpu().to(tensor.dtype))
    first = name.partition(".")[0].lower()
    return is_leftover(name) or is_averaged(first) or _TRAINING_ONLY.search(first) is not None


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The tensor in another number format of its kind; None where it would be another number.

    Floats are rounded if need be, but never to infinity; integers keep their value.
    """
    if tensor.dtype == dtype:
        return tensor
    if tensor.dtype in _FLOATS and dtype in _FLOATS:
        made = tensor.to(dtype)
        return made if torch.equal(made.isfinite(), tensor.isfinite()) else None
    if tensor.dtype in _INTEGERS and dtype in _INTEGERS:
        made = tensor.to(dtype)
        return made if torch.equal(made.to(tensor.dtype), tensor) else None
    return None


def chosen(fitting: list[Match], own: Collection[str]) -> tuple[Match, str]:
    """The one to take of several that all fit: the averaged weights; and a note that says which.

    Raises:
        CheckpointError: nothing says which of them.
    """
    fitting = [match for match in fitting if not is_bookkeeping(match.prefix)] or fitting
    different: list[Match] = []
    for match in fitting:
        if not any(all(torch.equal(match.state[k], other.state[k]) for k in own) for other in different):
            different.append(match)
    averaged = [match for match in different if match.averaged]
    pool = averaged or different
    keys = ", ".join(f"--weights-key {match.key}" for match in different)
    if len(pool) > 1:
        raise CheckpointError(f"holds {len(different)} sets of weights that fit: choose with {keys}")
    others = " and ".join(repr(match.key) for match in different if match is not pool[0])
    if not others:
        return pool[0], f"the weights are those under {pool[0].key!r}" if pool[0].prefix else ""
    return pool[0], f"took the averaged weights {pool[0].key!r} rather than {others} (to choose: {keys})"


def some(names: tuple[str, ...] | list[str], max_names: int = 6) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - max_names
    return ", ".join(names[:max_names]) + (f" and {more} more" if more > 0 else "")


View = tuple[NamedTensors, Mapping[str, str], Callable[[str], str], str]


def _views(named: NamedTensors, own: Collection[str]) -> Iterator[View]:
    """Ways to look at both sides: the file's names, the model's names seen -> as they are, and back."""
    yield named, {key: key for key in own}, lambda name: name, ""
    plain = {unwrapped(key): key for key in own}
    if len(plain) == len(own) and any(map(_is_wrapped, (*own, *named.tensors))):
        names = named.renamed(unwrapped)
        if len(names.tensors) == len(named.tensors):
            yield (
                names,
                plain,
                lambda name: plain.get(name, name),
                "the parts that wrappers put into names are removed",
            )
    shared = ""
    while parts := {key.removeprefix(shared).partition(".")[:2] for key in own}:
        if len(parts) > 1 or not (part := next(iter(parts)))[1]:
            return
        shared += f"{part[0]}."
        inner = {key.removeprefix(shared): key for key in own}
        yield named, inner, lambda name, shared=shared: shared + name, f"names put under {shared!r}"  # type: ignore[misc]


def _is_wrapped(name: str) -> bool:
    return unwrapped(name) != name


def _match(
    named: NamedTensors, prefix: str, known: Mapping[str, str], own_name: Callable[[str], str], note: str
) -> Match:
    below = {name: name[len(prefix) :] for name in named.tensors if name.startswith(prefix)}
    places = {named.containers[name] for name, inner in below.items() if inner in known}
    mapping = [name for name, place in named.containers.items() if place in places]
    return Match(
        prefix=prefix,
        state={own_name(below[name]): named.tensors[name] for name in mapping if name in below},
        outside=tuple(name for name in mapping if name not in below),
        versions={
            own_name(name[len(prefix) :]): version
            for name, version in named.versions.items()
            if f"{name}.".startswith(prefix)
        },
        note=note,
    )


def _same_shape(tensor: Tensor, like: Tensor) -> bool:
    """Torch takes a vector of one number for a scalar."""
    return tensor.shape == like.shape or (like.ndim == 0 and tuple(tensor.shape) == (1,))
