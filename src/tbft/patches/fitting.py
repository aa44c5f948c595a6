"""Where a patch meets a state: whatever applies one comes through here, before anything changes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tbft.blocks.state import clone_state, uninterrupted, write_state
from tbft.blocks.tensors import State, fingerprint, not_finite, tensor_bytes
from tbft.errors import PatchError
from tbft.patches.header import Header


def patched_state(header: Header, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> State:
    """`state` with the patch on top, as a new dict, once everything is known to be right.

    That is: the state is the base that the patch was made for; each tensor of the patch has a name that the
    base has, its shape and its type, and is finite, as what it replaces is; and the outcome is the state
    that the patch names.

    Raises:
        PatchError: one of these does not hold. Nothing was changed.
    """
    check_base(header, state)
    check_tensors(tensors, state, rows_added(header))
    patched = {
        key: tensors[key].to(value.device) if key in tensors else value for key, value in state.items()
    }
    if fingerprint(patched) != header.tuned_fingerprint:
        raise PatchError("the patch fits its base, but does not lead to the state it names; do not use it")
    return patched


def check_base(header: Header, state: Mapping[str, Tensor]) -> None:
    """Raise PatchError unless `state` is exactly the base that this patch was made for."""
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise PatchError(f"{other[0]} in the model's state is not a tensor: keep it out of the state dict")
    if lazy := [key for key, value in state.items() if value.is_meta or is_lazy(value)]:
        raise PatchError(f"{lazy[0]} has no values yet: run the model once, or load its weights, first")
    found = fingerprint(state)
    if found == header.base_fingerprint:
        return
    if found == header.tuned_fingerprint:
        what = "undone" if header.undoes else "applied"
        raise PatchError(f"the patch is {what} already: the model has its tensors")
    raise PatchError(
        f"the patch is for another base: it was made for {header.base_fingerprint[:12]}..., "
        f"this is {found[:12]}...; nothing was changed"
    )


def rows_added(header: Header) -> int:
    """Rows that a patch adds to the head; negative where it removes them again."""
    return -len(header.new_classes) if header.undoes else len(header.new_classes)


def check_tensors(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], rows: int = 0) -> None:
    """Raise PatchError unless each tensor could take the place of that of its name in a state.

    Args:
        rows: how many more rows the head's tensors have than those of the state.
    """
    if foreign := [key for key in tensors if key not in state]:
        raise PatchError(f"the patch holds {foreign[0]!r}, which the model does not have")
    for key, value in tensors.items():
        own = state[key]
        wider = (own.shape[0] + rows, *own.shape[1:]) if rows and own.ndim else own.shape
        if value.shape not in (own.shape, wider) or value.dtype != own.dtype:
            raise PatchError(
                f"the patch holds {key} as {value.dtype} {tuple(value.shape)}, the model as {own.dtype} "
                f"{tuple(own.shape)}"
            )
    if bad := not_finite(tensors):
        raise PatchError(f"the patch holds NaN or infinity in {bad[0]}")
    if bad := not_finite({key: state[key] for key in tensors}):
        raise PatchError(f"the model holds NaN or infinity in {bad[0]}: load its weights again")


def write_in_place(wanted: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copy tensors into a model: all of them, or none.

    Args:
        wanted: state-dict key -> new value.

    Raises:
        PatchError: a tensor cannot be written, or another changed with it; the model is as it was.
    """
    wanted = dict(wanted)
    _resize_head(model, wanted)
    saved = clone_state(model)
    try:
        write_state(model, wanted)
        if differ := _differing(model.state_dict(), {**saved, **wanted}):
            raise PatchError(
                f"the model shares memory between its tensors differently than the base did: {differ[0]} "
                "changed with another; nothing was changed"
            )
    except BaseException as error:
        with uninterrupted():
            write_state(model, {key: saved[key] for key in _differing(model.state_dict(), saved)})
        if isinstance(error, RuntimeError):
            reason = str(error).partition("\n")[0]
            raise PatchError(f"the patch cannot be written: {reason}; nothing was changed") from error
        raise


def _resize_head(model: nn.Module, wanted: Mapping[str, Tensor]) -> None:
    """Resize the parameters of a layer, where a patch adds or removes classes."""
    state = model.state_dict()
    for key, value in wanted.items():
        if value.shape != state[key].shape:
            path, _, name = key.rpartition(".")
            layer = model.get_submodule(path)
            setattr(layer, name, nn.Parameter(value.detach().clone().to(state[key].device)))
            if isinstance(layer, nn.Linear):
                layer.out_features = value.shape[0]


def _differing(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    return [key for key in state if tensor_bytes(state[key]) != tensor_bytes(other[key])]
