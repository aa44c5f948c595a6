"""Small files that travel with a model: tensors, a JSON header and a checksum in one ``.safetensors``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tbft.blocks.tensors import State, fingerprint
from tbft.errors import TbftError
from tbft.files import atomic_path


def to_bytes(kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of such a file.

    Args:
        kind: ``patch`` or ``card``.
    """
    text = json.dumps(header, sort_keys=True)
    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    return bytes(save(contiguous, {f"tbft_{kind}": text, "sha256": _seal(text, contiguous)}))


def write(path: str | Path, blob: bytes) -> None:
    """Write it, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(blob)


def read(path: str | Path, kind: str, version: int, error: type[TbftError]) -> tuple[dict[str, Any], State]:
    """Header and tensors, checked.

    Raises:
        error: missing, damaged, cut off, no such file, or of an unknown version.
    """
    if not Path(path).is_file():
        raise error(f"{path}: no such {kind} file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as cause:
        raise error(f"{path} is damaged, cut off, or no {kind}: {cause}") from cause
    if f"tbft_{kind}" not in metadata:
        raise error(f"{path} is a safetensors file, but no {kind}")
    text = metadata[f"tbft_{kind}"]
    if metadata.get("sha256") != _seal(text, tensors):
        raise error(f"{path} is damaged: its checksum does not match; get a fresh copy")
    header: dict[str, Any] = json.loads(text)
    if header.get("format_version") != version:
        found = header.get("format_version")
        older = isinstance(found, int) and found < version
        remedy = f"make the {kind} again" if older else "update tbft"
        raise error(f"{path} has format version {found}, this tbft reads {version}; {remedy}")
    return header, tensors


def _seal(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    digest.update(fingerprint(tensors).encode())
    return digest.hexdigest()
