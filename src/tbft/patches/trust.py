"""Who made a patch: signatures, the keys that a device trusts, and the policy that requires them.

A checksum says that a patch is as it was written. A signature says who wrote it. It is over the checksum and
a serial, a number that grows from one signature to the next and shows which of two patches is newer.

Where ``TBFT_REQUIRE_SIGNATURE`` is 1, patches that come from files are applied only if a trusted key signed
them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

from tbft.errors import KeyFileError, PatchError, TbftError
from tbft.files import atomic_path, claimed
from tbft.json_text import decode
from tbft.patches.keys import PrivateKey, PublicKey, read_public, trust_folder
from tbft.schema import Count, Form, build

POLICY = "TBFT_REQUIRE_SIGNATURE"
#: Ending of empty files in the folder of trusted keys, named by the ids of keys that are no longer trusted.
REVOKED = ".revoked"

KeyId = Annotated[str, Form("[0-9a-f]{16}", "the id of a key")]


@dataclass(frozen=True)
class Signature:
    """A signature of a patch.

    Attributes:
        key: id of the key that made it.
        serial: grows from signature to signature; by default the seconds since 1970.
        value: 64 bytes, in base64.
    """

    key: KeyId
    serial: Count
    value: str

    def to_json(self) -> str:
        """As a patch carries it."""
        return json.dumps(asdict(self), sort_keys=True)


def parse_signature(text: str, where: str) -> Signature:
    """The signature that a file carries.

    Raises:
        PatchError: it is damaged.
    """
    return build(Signature, decode(text, f"the signature of {where}", PatchError), where, PatchError)


def sign(seal: str, key: PrivateKey, serial: int | None = None) -> Signature:
    """Sign a patch by its checksum."""
    number = int(time.time()) if serial is None else serial
    value = base64.b64encode(key.sign(_message(seal, number))).decode()
    return Signature(key.public.id, number, value)


def verify(seal: str, signature: Signature | None, keys: Mapping[str, PublicKey], where: str) -> PublicKey:
    """The key that signed a patch.

    Args:
        keys: those that are trusted, by id.

    Raises:
        PatchError: unsigned, signed by a key that is revoked or not trusted, or changed after signing.
    """
    if signature is None:
        raise PatchError(f"{where} is not signed: sign it with `tbft patch sign`, or get a signed one")
    key = keys.get(signature.key)
    if signature.key in revoked_ids():
        raise PatchError(
            f"{where} is signed by the key {signature.key}, which was revoked here: get a new one"
        )
    if key is None:
        raise PatchError(
            f"{where} is signed by the key {signature.key}, which is not trusted here: if you know whose it "
            "is, trust it with `tbft keys trust FILE.pub`"
        )
    try:
        value = base64.b64decode(signature.value, validate=True)
    except binascii.Error:
        value = b""
    if not key.verifies(value, _message(seal, signature.serial)):
        raise PatchError(f"{where} was not signed by {key.name}: it was changed after signing; do not use it")
    return key


def is_required() -> bool:
    """Whether this device applies signed patches only.

    Raises:
        TbftError: the environment variable says neither.
    """
    said = os.environ.get(POLICY, "").strip().lower()
    if said in ("", "0", "no", "false", "off"):
        return False
    if said in ("1", "yes", "true", "on"):
        return True
    raise TbftError(f"${POLICY} is {said!r}: set it to 1, or to 0")


def trusted_keys() -> dict[str, PublicKey]:
    """The keys that are trusted here, by id: those in the folder, without the revoked ones."""
    folder = trust_folder()
    if not folder.is_dir():
        return {}
    keys = [read_public(path) for path in sorted(folder.glob("*.pub"))]
    revoked = revoked_ids()
    return {key.id: key for key in keys if key.id not in revoked}


def revoked_ids() -> frozenset[str]:
    """The ids of keys that are no longer trusted."""
    try:
        folder = trust_folder()
    except KeyFileError:  # without a home, there is no such folder
        return frozenset()
    try:
        return frozenset(path.stem for path in folder.iterdir() if path.suffix == REVOKED)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise KeyFileError(f"cannot read the folder of trusted keys {folder}: {error.strerror}") from error


def trust(key: PublicKey) -> None:
    """Trust a key from now on.

    Raises:
        KeyFileError: it was revoked, or another key has its name.
    """
    folder = trust_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if key.id in revoked_ids():
        raise KeyFileError(f"{key.name} ({key.id}) was revoked: sign with a new key")
    path = folder / f"{key.name}.pub"
    with claimed(path):
        if path.exists() and read_public(path).id != key.id:
            raise KeyFileError(f"{path} is another key of this name: remove it, or rename yours")
        with atomic_path(path) as temporary:
            temporary.write_text(key.line + "\n")


def revoke(key_id: str) -> None:
    """Revoke a key, for good."""
    folder = trust_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_path(folder / f"{key_id}{REVOKED}"):
        pass


def _message(seal: str, serial: int) -> bytes:
    return f"tbft patch signature 1\n{seal}\n{serial}\n".encode()
