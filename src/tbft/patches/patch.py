"""Patches: the tensors that differ from the base model, and what is needed to trust, apply and undo them.

    patch = make_patch(base_state, tuned.changed, arm="front")
    patch.save("user.safetensors")
    undo = Patch.load("user.safetensors").apply(model)   # checks the base first
    undo.apply(model)                                    # reverted: the base again, bit for bit

What undoes a patch is a patch: applied to the tuned model, it gives the base. `apply` returns it.
On checkpoint files, ``patch.verify(read_state(path))``, ``applied_to`` and ``undo`` do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tbft import container
from tbft.blocks.tensors import State, fingerprint
from tbft.errors import PatchError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Header:
    """What a patch says of itself."""

    base_fingerprint: str  # of the state it applies to, see models.fingerprint
    tuned_fingerprint: str  # of the state it leads to
    arm: str
    block: str | None = None  # the block the arm lies in; None for adabn and full
    level: str | None = None
    model: str | None = None  # preset or factory
    cuts: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""  # UTC, ISO 8601
    undoes: bool = False  # leads back to a base rather than away from one
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, eq=False)
class Patch:
    """Tensors that differ from a base, and a header."""

    header: Header
    tensors: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """The patch as a ``.safetensors`` file; header and tensors are sealed by a checksum."""
        return container.to_bytes("patch", asdict(self.header), self.tensors)

    def save(self, path: str | Path) -> None:
        """Write the patch, atomically."""
        container.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Patch:
        """Read a patch and check its checksum and version.

        Raises:
            PatchError: missing, damaged, cut off, no patch, or of an unknown version.
        """
        fields, tensors = container.read(path, "patch", FORMAT_VERSION, PatchError)
        try:
            return cls(Header(**{**fields, "cuts": tuple(fields["cuts"])}), tensors)
        except (TypeError, KeyError) as error:
            raise PatchError(f"{path} has a header of another shape: {error}") from error

    def apply(self, model: nn.Module) -> Patch:
        """Apply to a model in memory and return the patch that undoes it.

        Raises:
            PatchError: the model is not the base this patch was made for; it stays untouched.
        """
        state = model.state_dict()
        undo = self.undo(state)
        with torch.no_grad():
            for key, value in self.tensors.items():
                state[key].copy_(value)  # the state dict shares memory with the model
        return undo

    def applied_to(self, state: Mapping[str, Tensor]) -> State:
        """A new state dict with the patch on top; `state` stays as it is."""
        self.check_base(state)
        return {key: self.tensors.get(key, value) for key, value in state.items()}

    def undo(self, state: Mapping[str, Tensor]) -> Patch:
        """The patch that leads from the tuned state back to `state`, its base."""
        self.check_base(state)
        header = replace(
            self.header,
            base_fingerprint=self.header.tuned_fingerprint,
            tuned_fingerprint=self.header.base_fingerprint,
            recipe={},
            measured={},
            versions=versions(),
            created=_now(),
            undoes=not self.header.undoes,
        )
        return Patch(header, {key: state[key].detach().clone() for key in self.tensors})

    def verify(self, state: Mapping[str, Tensor]) -> None:
        """Raise PatchError unless `state` is the base of this patch and the patch leads where it says."""
        if fingerprint(self.applied_to(state)) != self.header.tuned_fingerprint:
            raise PatchError(
                "the patch fits its base, but does not lead to the state it names; do not use it"
            )

    def check_base(self, state: Mapping[str, Tensor]) -> None:
        """Raise PatchError unless `state` is the very base that this patch was made for."""
        found = fingerprint(state)
        if found == self.header.base_fingerprint:
            return
        if found == self.header.tuned_fingerprint:
            what = "undone" if self.header.undoes else "applied"
            raise PatchError(f"the patch is {what} already: the model has its tensors")
        raise PatchError(
            f"the patch is for another base: it was made for {self.header.base_fingerprint[:12]}..., "
            f"this is {found[:12]}...; nothing was changed"
        )


def make_patch(base: Mapping[str, Tensor], changed: Mapping[str, Tensor], arm: str, **header: Any) -> Patch:
    """A patch of the tensors that changed.

    Args:
        base: the whole state dict before tuning.
        changed: state-dict key -> new value, as in ``Tuned.changed``.
        arm: what was tuned. Further fields of :class:`Header` by name.
    """
    tuned = {**base, **changed}
    made = Header(
        base_fingerprint=fingerprint(base),
        tuned_fingerprint=fingerprint(tuned),
        arm=arm,
        versions=versions(),
        created=_now(),
        **header,
    )
    return Patch(made, dict(changed))


def versions() -> dict[str, str]:
    """Versions of what makes results."""
    import platform

    from tbft import __version__

    return {"tbft": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
