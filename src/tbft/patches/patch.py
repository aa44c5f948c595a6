"""Patches: the tensors that differ from the base model, and what is needed to trust, apply and undo them.

    patch = make_patch(base_state, tuned.changed, arm="front")
    patch.save("user.safetensors")
    undo = Patch.load("user.safetensors").apply(model)   # checks everything first
    undo.apply(model)                                    # reverted: the base again, bit for bit

    with patch.applied(model):                           # or the tuned model inside, the base outside
        ...

The undo of a patch is a patch: applied to the tuned model, it gives the base. `apply` returns it.
On states, ``patch.verify(state)``, ``applied_to`` and ``undo`` do the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tbft import container
from tbft.blocks.state import values_restored
from tbft.blocks.tensors import State, fingerprint
from tbft.blocks.unwrap import plain
from tbft.errors import PatchError
from tbft.files import PATCH
from tbft.patches.fitting import check_tensors, patched_state, write_in_place
from tbft.patches.header import FORMAT_VERSION, Header, now, parse_header, versions
from tbft.patches.keys import PrivateKey, PublicKey
from tbft.patches.trust import Signature, is_required, parse_signature, sign, trusted_keys, verify

#: Key of the file's metadata; what it holds is not under the checksum, which it signs.
SIGNATURE = "tbft_signature"


@dataclass(frozen=True, eq=False)
class Patch:
    """Tensors that differ from a base, and a header.

    Attributes:
        signature: who made it; None if it is not signed.
        source: the file it was read from; None for one made here, which needs no signature.
    """

    header: Header
    tensors: Mapping[str, Tensor]
    signature: Signature | None = None
    source: str | None = None

    def to_bytes(self) -> bytes:
        """The patch as a ``.safetensors`` file; header and tensors are sealed by a checksum."""
        notes = {} if self.signature is None else {SIGNATURE: self.signature.to_json()}
        return container.to_bytes("patch", asdict(self.header), self.tensors, notes)

    def save(self, path: str | Path) -> None:
        """Write the patch, atomically."""
        container.write(path, self.to_bytes(), PATCH)

    @classmethod
    def load(cls, path: str | Path) -> Patch:
        """Read a patch and check its checksum, its version and every field of its header.

        Raises:
            PatchError: missing, damaged, cut off, not a patch, or of an unknown version.
        """
        content = container.read(path, "patch", FORMAT_VERSION, PatchError)
        text = content.notes.get(SIGNATURE)
        signature = None if text is None else parse_signature(text, str(path))
        return cls(parse_header(content.header, str(path)), content.tensors, signature, str(path))

    @property
    def seal(self) -> str:
        """The checksum over header and tensors, which is what is signed."""
        return container.seal(container.header_text(asdict(self.header)), self.tensors)

    def signed(self, key: PrivateKey, serial: int | None = None) -> Patch:
        """The patch with a signature.

        Args:
            serial: has to be higher than that of the patch before; default: the seconds since 1970.
        """
        return replace(self, signature=sign(self.seal, key, serial))

    def signer(self, keys: Mapping[str, PublicKey] | None = None) -> PublicKey:
        """The key that signed the patch.

        Args:
            keys: trusted keys, by id; default: those of this device.

        Raises:
            PatchError: unsigned, or not by a trusted key.
        """
        keys = trusted_keys() if keys is None else keys
        return verify(self.seal, self.signature, keys, self.source or "the patch")

    def apply(self, model: nn.Module) -> Patch:
        """Apply to a model in memory and return the patch that undoes it.

        Of a model that is compiled or in ``DataParallel``, the module inside counts.

        Raises:
            PatchError: the model is not the base this patch was made for, the patch is not what it says, or
                not signed where ``TBFT_REQUIRE_SIGNATURE`` asks for it; the model stays untouched.
        """
        own = plain(model)
        state = own.state_dict()
        patched = self._patched(state)
        undo = self._undo(state)
        write_in_place({key: patched[key] for key in self.tensors}, own)
        return undo

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """The tuned model inside, the base again outside, also after an exception; yields the model.

        Raises:
            PatchError: as :meth:`apply`.
        """
        with values_restored(plain(model)):
            self.apply(model)
            yield model

    def applied_to(self, state: Mapping[str, Tensor]) -> State:
        """A new state dict with the patch on top; `state` stays as it is.

        Raises:
            PatchError: as :meth:`apply`.
        """
        return self._patched(state)

    def undo(self, state: Mapping[str, Tensor]) -> Patch:
        """The patch that leads from the tuned state back to `state`, its base.

        Raises:
            PatchError: as :meth:`apply`.
        """
        self._patched(state)
        return self._undo(state)

    def verify(self, state: Mapping[str, Tensor]) -> None:
        """Raise PatchError unless `state` is the base of this patch and the patch leads where it says."""
        self._patched(state)

    def _patched(self, state: Mapping[str, Tensor]) -> State:
        if self.source is not None and is_required():
            self.signer()
        return patched_state(self.header, self.tensors, state)

    def _undo(self, state: Mapping[str, Tensor]) -> Patch:
        header = replace(
            self.header,
            base_fingerprint=self.header.tuned_fingerprint,
            tuned_fingerprint=self.header.base_fingerprint,
            recipe={},
            measured={},
            versions=versions(),
            created=now(),
            undoes=not self.header.undoes,
        )
        return Patch(header, {key: state[key].detach().clone() for key in self.tensors})


def make_patch(base: Mapping[str, Tensor], changed: Mapping[str, Tensor], arm: str, **header: Any) -> Patch:
    """A patch of the tensors that changed.

    Args:
        base: the whole state dict before tuning.
        changed: state-dict key -> new value, as in ``Tuned.changed``.
        arm: what was tuned. Further fields of :class:`Header` by name.

    Raises:
        PatchError: a tensor that the base does not have, of another shape or type, or that is not finite.
    """
    check_tensors(changed, base, len(header.get("new_classes", ())))
    made = Header(
        base_fingerprint=fingerprint(base),
        tuned_fingerprint=fingerprint({**base, **changed}),
        arm=arm,
        versions=versions(),
        created=now(),
        **header,
    )
    return Patch(made, dict(changed))
