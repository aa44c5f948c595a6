"""Small files that travel with a model: tensors, a JSON header and a checksum in one ``.safetensors``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tbft.blocks.tensors import State, fingerprint, unshared
from tbft.errors import TbftError
from tbft.files import Kind, atomic_path
from tbft.json_text import decode, encode


@dataclass(frozen=True, eq=False)
class Content:
    """What such a file holds.

    Attributes:
        header: decoded JSON.
        tensors: by name.
        seal: the checksum over header and tensors, SHA-256 in hex.
        notes: further texts not covered by the checksum, such as a signature of it.
    """

    header: dict[str, Any]
    tensors: State
    seal: str
    notes: Mapping[str, str]


def to_bytes(
    kind: str,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """The content of such a file.

    Args:
        kind: ``patch`` or ``card``.
    """
    text = header_text(header)
    own = {key: tensor.cpu() for key, tensor in unshared(tensors).items()}
    return bytes(save(own, {**(notes or {}), f"tbft_{kind}": text, "sha256": seal(text, own)}))


def header_text(header: Mapping[str, Any]) -> str:
    """A header as JSON; an unknown number (NaN) is null."""
    return encode(dict(header), sort_keys=True)


def seal(header: str, tensors: Mapping[str, Tensor]) -> str:
    """The checksum of such a file, SHA-256 in hex."""
    digest = hashlib.sha256(header.encode())
    digest.update(fingerprint(tensors).encode())
    return digest.hexdigest()


def write(path: str | Path, blob: bytes, kind: Kind) -> None:
    """Write it, atomically."""
    with atomic_path(path, kind=kind) as temporary:
        temporary.write_bytes(blob)


def read(
    path: str | Path, kind: str, version: int, error: type[TbftError], oldest: int | None = None
) -> Content:
    """Header and tensors, checked.

    Args:
        version: the newest that is understood.
        oldest: the oldest; None: only the newest.

    Raises:
        error: missing, damaged, cut off, no such file, or of an unknown version.
    """
    if not Path(path).is_file():
        raise error(f"{path}: no such {kind} file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as cause:  # a damaged file can raise almost anything
        raise error(f"{path} is damaged, cut off, or not a {kind}: {cause}; get a fresh copy") from cause
    if f"tbft_{kind}" not in metadata:
        raise error(f"{path} is a safetensors file, but not a {kind}")
    text = metadata.pop(f"tbft_{kind}")
    found = seal(text, tensors)
    if metadata.pop("sha256", "") != found:
        raise error(f"{path} is damaged: its checksum does not match; get a fresh copy")
    header = decode(text, f"the header of {path}", error)
    if not isinstance(header, dict):
        raise error(f"the header of {path} is not usable: it has to be an object")
    own = header.get("format_version")
    if type(own) is not int or not (oldest or version) <= own <= version:
        older = type(own) is int and own < version
        remedy = f"make the {kind} again" if older else "update tbft"
        raise error(f"{path} has format version {own}, this tbft reads {version}; {remedy}")
    return Content(header, tensors, found, metadata)
