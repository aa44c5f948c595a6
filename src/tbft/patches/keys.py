"""Ed25519 keys that sign patches, and the folders they lie in. Needs the extra ``sign``.

A key pair is two files: ``NAME.key`` for the maker of patches, who keeps it secret, and ``NAME.pub`` for
the devices, one line of text: ``tbft-ed25519 BASE64 NAME``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.errors import KeyFileError, needs
from tbft.files import atomic_path, claimed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TYPE = "tbft-ed25519"
#: Environment variables: folders of one's own keys and of trusted ones, and the private keys' passphrase.
KEYS, TRUST, PASSPHRASE = "TBFT_KEYS", "TBFT_TRUST", "TBFT_KEY_PASSPHRASE"

_NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,99}")


@dataclass(frozen=True)
class PublicKey:
    """What signatures are verified by.

    Attributes:
        raw: the 32 bytes of the key.
    """

    name: str
    raw: bytes

    @property
    def id(self) -> str:
        """The key's name for machines: the start of its SHA-256, in hex."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def line(self) -> str:
        """The key as its file holds it."""
        return f"{TYPE} {base64.b64encode(self.raw).decode()} {self.name}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature of the message was made by the key's other half.

        Raises:
            MissingExtraError: `cryptography` is not installed.
        """
        with needs("cryptography", "sign"):
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """What signs."""

    public: PublicKey
    secret: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return self.secret.sign(message)


def new_key(name: str, folder: Path | None = None) -> Path:
    """Make a key pair; returns the path of the private half, which only the user may read.

    It is encrypted where ``TBFT_KEY_PASSPHRASE`` is set.

    Raises:
        KeyFileError: a name that is not valid, or that is taken.
        MissingExtraError: `cryptography` is not installed.
    """
    with needs("cryptography", "sign"):
        from cryptography.hazmat.primitives import serialization as s
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} is not valid as the name of a key: use letters, digits, and . _ @ -")
    place = folder or keys_folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{name}.key"
    secret = Ed25519PrivateKey.generate()
    word = os.environ.get(PASSPHRASE)
    lock = s.BestAvailableEncryption(word.encode()) if word else s.NoEncryption()
    pem = secret.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, lock)
    public = PublicKey(name, secret.public_key().public_bytes_raw())
    with claimed(path):
        if path.exists():
            raise KeyFileError(f"{path} exists already, and keys are not overwritten: give another name")
        with atomic_path(path.with_suffix(".pub")) as temporary:
            temporary.write_text(public.line + "\n")
        with atomic_path(path, private=True) as temporary:  # the last: until it is there, the name is free
            temporary.write_bytes(pem)
    return path


def read_private(name_or_path: str) -> PrivateKey:
    """A private key by its name, or from its file.

    Raises:
        KeyFileError: missing, not a key, or its passphrase is wrong.
        MissingExtraError: `cryptography` is not installed.
    """
    with needs("cryptography", "sign"):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    path = _located(name_or_path, ".key")
    word = os.environ.get(PASSPHRASE)
    try:
        blob = path.read_bytes()
        secret = load_pem_private_key(blob, word.encode() if word and b"ENCRYPTED" in blob else None)
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}; see `tbft keys show`") from error
    except Exception as error:  # a damaged key can raise almost anything
        raise KeyFileError(
            f"{path} is not a private key, or ${PASSPHRASE} does not hold its passphrase: {error}"
        ) from error
    if not isinstance(secret, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is a key of another kind; make one with `tbft keys new`")
    public = PublicKey(path.stem, secret.public_key().public_bytes_raw())
    half = path.with_suffix(".pub")
    if half.exists() and read_public(half).raw != public.raw:
        raise KeyFileError(f"{path} does not belong to {half}: one of the two is damaged, or of another pair")
    return PrivateKey(public, secret)


def read_public(name_or_path: str | Path) -> PublicKey:
    """A public key by its name, or from its file.

    Raises:
        KeyFileError: missing, or not a key.
    """
    path = _located(str(name_or_path), ".pub")
    try:
        text = path.read_bytes()[:1000].decode("ascii").strip()
    except OSError as error:
        raise KeyFileError(
            f"cannot read the key {path}: {error.strerror}; copy it from the machine on which it was made: "
            "`tbft keys show` prints its path"
        ) from error
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path} is not a public key, which is one line of text") from error
    return parse_public(text, str(path))


def parse_public(line: str, where: str) -> PublicKey:
    """The key in a line of text.

    Raises:
        KeyFileError: it holds none.
    """
    parts = line.split()
    try:
        raw = base64.b64decode(parts[1], validate=True) if len(parts) == 3 and parts[0] == TYPE else b""
    except binascii.Error:
        raw = b""
    if len(raw) != 32 or not _NAME.fullmatch(parts[2]):
        raise KeyFileError(f"{where} is not a public key: expected `{TYPE} BASE64 NAME`")
    return PublicKey(parts[2], raw)


def keys_folder() -> Path:
    """The folder of one's own keys: ``$TBFT_KEYS``, or ``tbft/keys`` in the user's configuration."""
    return _folder(KEYS, "keys")


def trust_folder() -> Path:
    """The folder of trusted public keys: ``$TBFT_TRUST``, or ``tbft/trust`` in the user's configuration."""
    return _folder(TRUST, "trust")


def _folder(variable: str, name: str) -> Path:
    if place := os.environ.get(variable):
        return Path(place)
    if place := os.environ.get("XDG_CONFIG_HOME"):
        return Path(place) / "tbft" / name
    try:
        return Path.home() / ".config" / "tbft" / name
    except RuntimeError:
        raise KeyFileError(f"there is no home folder here: name the folder of keys by ${variable}") from None


def _located(name_or_path: str, suffix: str) -> Path:
    if name_or_path.endswith(suffix) or os.sep in name_or_path:
        return Path(name_or_path)
    return keys_folder() / f"{name_or_path}{suffix}"
