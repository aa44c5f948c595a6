"""Checkpoints: read from any usual file, matched with the model's own names, never unpickled blindly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tbft.blocks.tensors import State, fingerprint, unshared
from tbft.errors import CheckpointError
from tbft.files import WEIGHTS, atomic_path
from tbft.models.file_content import FINGERPRINT, Content, read_content
from tbft.models.match import Match, is_averaged, is_bookkeeping, matches, some
from tbft.models.named_tensors import NamedTensors, is_leftover, named_tensors, with_counters
from tbft.models.placement import place

#: Where the weights that ship with presets are.
BASES = Path(__file__).parent / "bases"


def load_weights(model: nn.Module, path: str | Path, key: str | None = None) -> tuple[str, ...]:
    """Load a checkpoint into a model. Every tensor of the model has to be found; else nothing is changed.

    The weights may lie under any key (``state_dict``, ``model``, ``params_ema``, ...), behind any prefix
    (``module.``, ``_orig_mod.``, a trainer's name for the network), beside an optimizer or plain settings, or
    in a pickled module; they are found by the model's own names. Names that torch converts while loading
    (``weight_g`` of the older weight norm) are converted, and floats of another precision become the model's.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote, whatever it is called; or the name of a preset
            that ships with weights.
        key: where the weights lie in the file, such as ``state_dict_ema`` or ``state_dict.model``; ``.`` for
            the outermost mapping. By default the averaged weights, if there are any that fit.

    Returns:
        What was assumed, converted or left out, a sentence each.

    Raises:
        CheckpointError: missing, damaged, of another kind, asks for code to be run, does not fit (with the
            names that are missing, left over, or of another shape), or holds several sets that fit.
    """
    content = _content(Path(path))
    notes = place(model, _under(named_tensors(content.root), key, str(path)), str(path))
    if content.replaced:
        notes += (f"not unpickled, as it is not needed: {some(content.replaced, 4)}",)
    return tuple(f"{Path(path).name}: {note}" for note in notes)


def load_state(model: nn.Module, state: Mapping[str, Tensor], name: str = "the state") -> tuple[str, ...]:
    """The same for a state dict in memory; `name` is what messages call it."""
    return place(model, named_tensors(state), name)


def read_state(path: str | Path, key: str | None = None) -> State:
    """The weights in a file under the names that they have there, where no model is at hand.

    Of several sets the averaged one is taken; what profilers leave behind is left out.

    Raises:
        CheckpointError: the file cannot be read, or holds no or several sets of weights.
    """
    named = _under(named_tensors(_content(Path(path)).root), key, str(path))
    sets = list(dict.fromkeys(named.containers.values()))
    sets = [container for container in sets if not is_bookkeeping(container)] or sets
    sets = [container for container in sets if is_averaged(container)] or sets
    if len(sets) > 1:
        raise CheckpointError(
            f"{path} holds several sets of tensors, choose one by its key: {named.summary()}"
        )
    return {
        name.removeprefix(sets[0]): tensor
        for name, tensor in named.tensors.items()
        if named.containers[name] == sets[0] and not (is_leftover(name) and "num_batches" not in name)
    }


def read_state_for(path: str | Path, keys: Collection[str], fingerprints: Collection[str]) -> State:
    """The state in a file that has one of these fingerprints, where a patch is at hand, but no model.

    Every place in the file is tried where names end as `keys` do: without the prefix before them, without the
    segments of wrappers, with the counters of BatchNorm, and in float32. So a patch finds its base in the
    checkpoint of a compiled model or of a trainer, beside averaged weights, and in half precision.

    Args:
        keys: some names of the state, such as those of a patch's tensors.
        fingerprints: of the states that are wanted, such as a patch's base.

    Returns:
        The first state with one of the fingerprints; else the likeliest, which has another.

    Raises:
        CheckpointError: as for :func:`read_state`.
    """
    named = named_tensors(_content(Path(path)).root)
    tried: list[State] = []
    seen: set[frozenset[tuple[str, int, torch.dtype]]] = set()
    for state in (variant for match in matches(named, keys) for variant in _variants(match)):
        summary = frozenset((key, tensor.data_ptr(), tensor.dtype) for key, tensor in state.items())
        if summary in seen:
            continue
        if fingerprint(state) in fingerprints:
            return state
        seen.add(summary)
        tried.append(state)
    return tried[0] if tried else read_state(path)


def save_weights(
    state: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a state dict as ``.safetensors``, atomically, with its fingerprint, which reading it checks."""
    metadata = {**(metadata or {}), FINGERPRINT: fingerprint(state)}
    with atomic_path(path, kind=WEIGHTS) as temporary:
        save_file(unshared(state), temporary, metadata)


def shipped(name: str | Path) -> Path | None:
    """The weights that ship with the preset of this name; None if there are none, or a file has that name.

    >>> shipped("resnet26-tiny17").name, shipped("base.pt")
    ('resnet26-tiny17.safetensors', None)
    """
    path = BASES / f"{name}.safetensors"
    is_name = path.parent == BASES and "." not in path.stem
    return path if is_name and path.is_file() and not Path(name).exists() else None


def _content(path: Path) -> Content:
    try:
        content = read_content(shipped(path) or path)
        found = named_tensors(content.root)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:  # containers without end, or a sparse tensor beyond memory
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a usable checkpoint: {reason}") from error
    if not found.tensors:
        message = f"{path} holds no state dict (a mapping of names to tensors)"
        if content.replaced:
            message += (
                f", but objects that are not unpickled: {some(content.replaced, 4)}; where you trust it, "
                "load it and write its weights as tensors, with torch.save"
            )
        raise CheckpointError(message)
    return content


def _under(named: NamedTensors, key: str | None, name: str) -> NamedTensors:
    """The tensors that a key names."""
    if key is None:
        return named
    found = named.outermost() if key == "." else named.under(key)
    if not found.tensors:
        raise CheckpointError(f"{name} has no tensors under {key!r}; it has some under: {named.summary()}")
    return found


def _variants(match: Match) -> Iterator[State]:
    """States that a patch may have been made for."""
    plain = {key: t for key, t in match.state.items() if not is_leftover(key) or "num_batches" in key}
    for state in (dict(match.state), plain, with_counters(plain)):
        yield state
        if any(t.dtype in (torch.float16, torch.bfloat16) for t in state.values()):
            yield {key: t.float() if t.is_floating_point() else t for key, t in state.items()}
