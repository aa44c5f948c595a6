"""Puts the tensors of a checkpoint into a model, all of them or none."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tbft.blocks.tensors import not_finite
from tbft.blocks.unwrap import plain
from tbft.errors import CheckpointError
from tbft.models.match import Match, Misfit, chosen, converted, is_averaged, matches, misfit, some
from tbft.models.named_tensors import NamedTensors, is_leftover, with_counters


def place(model: nn.Module, named: NamedTensors, name: str) -> tuple[str, ...]:
    """Find a model's weights among named tensors and load them; returns what was assumed or left out.

    Args:
        name: what messages call the source of the tensors.

    Raises:
        CheckpointError: nothing fits, or several sets of weights do; the model is as it was.
    """
    model = plain(model)
    own = model.state_dict()
    if any(tensor.is_meta for tensor in own.values()):
        raise CheckpointError(f"{type(model).__name__} is on the meta device, without memory: use to_empty()")
    constants = {key: buffer for key, buffer in model.named_buffers() if key not in own}
    found = [_completed(match, own) for match in matches(named, own)]
    fitting = [match for match in found if not misfit(match.state, own, constants)]
    if not fitting:
        misfits = [(match, misfit(match.state, own, constants)) for match in found]
        return _renamed_by_torch(model, misfits, named, name)
    try:
        match, choice = chosen(fitting, own)
    except CheckpointError as error:
        raise CheckpointError(f"{name} {error}") from error
    state = {key: _like(match.state[key], own[key]) for key in own}
    with _undone_on_error(model):
        _put(model, state, match, name)
        _check(model, state, name)
    others = tuple(other.prefix for other in fitting if other is not match and other.prefix)
    left = [key for key in match.state if key not in own]
    left += [name for name in match.outside if not name.startswith(others)]
    return tuple(note for note in (choice, _unused(named, match), *_notes(match, own, left)) if note)


Misfits = list[tuple[Match, Misfit]]


def _renamed_by_torch(model: nn.Module, misfits: Misfits, named: NamedTensors, name: str) -> tuple[str, ...]:
    """Let the model's own hooks rename tensors; where they cannot, say what does not fit."""
    renamable = [(m, w) for m, w in misfits[:4] if w.missing and not (w.shapes or w.types)]
    for match, wrong in sorted(renamable, key=lambda pair: not pair[0].averaged):
        try:
            with _undone_on_error(model):
                missing, unexpected = _put(model, match.state, match, name)
                if missing or not all(map(is_leftover, unexpected)):
                    raise CheckpointError(f"{name} does not fit")
        except CheckpointError:
            continue
        renamed = f"{len(wrong.missing)} tensors renamed by torch: {some(wrong.missing)}"
        left = [*unexpected, *match.outside]
        return (renamed + _where(match), *_notes(match, model.state_dict(), left))
    raise CheckpointError(_refusal(model, misfits, named, name))


def _refusal(model: nn.Module, misfits: Misfits, named: NamedTensors, name: str) -> str:
    start = f"{name} does not fit {type(model).__name__}"
    if not misfits:
        return f"{start}: none of the model's names is in it; it has tensors under: {named.summary()}"
    match, wrong = misfits[0]
    if wrong.unexpected and not (wrong.missing or wrong.shapes or wrong.types):
        remedy = (
            "; is it for a larger model? If the model does without them, save the checkpoint without them"
        )
    elif wrong.shapes and all(words.partition(" ")[0].endswith(("weight", "bias")) for words in wrong.shapes):
        remedy = "; build the model with the classes and sizes that it was trained with"
    else:
        remedy = ""
    return f"{start}{_where(match)}: {wrong}{remedy}"


def _where(match: Match) -> str:
    return f" (under {match.key!r})" if match.prefix else ""


def _completed(match: Match, own: Mapping[str, Tensor]) -> Match:
    """With what old checkpoints (counters) and safetensors (tied weights) leave out."""
    state = {k: v for k, v in with_counters(match.state).items() if k in match.state or k in own}
    places: dict[Any, str] = {}
    for key in own:
        if key in state and not is_lazy(own[key]):
            places[_memory(own[key])] = key
    tied = {
        key: state[places[_memory(own[key])]]
        for key in own
        if key not in state and not is_lazy(own[key]) and _memory(own[key]) in places
    }
    return replace(match, state={**state, **tied})


def _memory(tensor: Tensor) -> Any:
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else object()


def _like(tensor: Tensor, like: Tensor) -> Tensor:
    if is_lazy(like):
        return tensor
    made = converted(tensor, like.dtype)
    assert made is not None  # else it would not fit
    return made.reshape(like.shape)


def _put(
    model: nn.Module, state: Mapping[str, Tensor], match: Match, name: str
) -> tuple[list[str], list[str]]:
    """What torch finds missing and unexpected, once its hooks have run."""
    given = OrderedDict(state)
    if match.versions:
        given._metadata = dict(match.versions)  # type: ignore[attr-defined]
    try:
        left = model.load_state_dict(given, strict=False)
    except Exception as error:  # a size that differs, or whatever a model's own hook raises
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name} cannot be loaded into {type(model).__name__}: {reason}") from error
    return left.missing_keys, left.unexpected_keys


@contextmanager
def _undone_on_error(model: nn.Module) -> Iterator[None]:
    saved = {key: t.detach().clone() for key, t in model.state_dict().items() if not is_lazy(t)}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                if key in saved:
                    tensor.copy_(saved[key])
        raise


def _check(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Check that what was loaded is what the file holds; two names of one tensor can have only one value."""
    wrong = [
        key for key, tensor in model.state_dict().items() if not _same(tensor.detach().cpu(), state[key])
    ]
    if wrong:
        raise CheckpointError(
            f"{name} gives {some(wrong)} values that {type(model).__name__} does not keep: weights that "
            "share their memory in the model (tied weights) have to be the same in the file"
        )


def _same(tensor: Tensor, other: Tensor) -> bool:
    return torch.equal(tensor, other) or torch.equal(tensor.nan_to_num(), other.nan_to_num())


def _unused(named: NamedTensors, match: Match) -> str:
    """Averaged weights that were not taken, as they do not fit."""
    if match.averaged:
        return ""
    places = Counter(place for place in named.containers.values() if is_averaged(place))
    found = [place.removesuffix(".") for place, count in places.items() if count > 1]
    return f"the averaged weights under {some(found)} do not fit and were not taken" if found else ""


def _notes(match: Match, own: Mapping[str, Tensor], left_out: list[str]) -> Iterator[str]:
    if match.note:
        yield match.note
    if left_out:
        yield f"{len(left_out)} tensors left out that the model does not have: {some(left_out)}"
    if bad := not_finite({key: match.state[key] for key in own if key in match.state}):
        yield f"NaN or infinity in {some(bad)}: the model's outputs will not be finite"
    changed = Counter(
        (match.state[key].dtype, own[key].dtype)
        for key in own
        if key in match.state and not is_lazy(own[key]) and match.state[key].dtype != own[key].dtype
    )
    for (before, after), count in changed.items():
        names = [str(kind).removeprefix("torch.") for kind in (before, after)]
        yield f"{count} tensors converted from {' to '.join(names)}; patches are for the converted weights"
