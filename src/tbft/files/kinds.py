"""The kinds of files that tbft writes: a file of another kind is never replaced by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbft.errors import WriteError

#: Longest JSON that is read, bytes; the library of ``.safetensors`` takes no longer headers either.
_MAX_HEADER = 100_000_000
#: What is read of a file to recognize it, bytes.
_START = 4096


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        what: it is, with an article.
        suffix: of its name.
        is_one: whether the file at a path is of this kind.
    """

    what: str
    suffix: str
    is_one: Callable[[Path], bool]

    def check_replaces(self, path: Path) -> None:
        """Raise WriteError if there is a file of another kind, which would be lost; an empty one is none."""
        if not path.is_file() or not path.stat().st_size:
            return
        try:
            is_same = self.is_one(path)
        except (OSError, ValueError):  # damaged, or text in another encoding
            is_same = False
        if not is_same:
            raise WriteError(
                f"cannot write {path}: there is a file that is not {self.what}, which would be lost; move "
                "it, or give another name"
            )


def _metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a ``.safetensors`` file; None for any other."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MAX_HEADER:
            return None
        header = json.loads(file.read(length))
    return header.get("__metadata__", {}) if isinstance(header, dict) else None


def _has_key(key: str) -> Callable[[Path], bool]:
    return lambda path: key in (_metadata(path) or {})


def _are_weights(path: Path) -> bool:
    metadata = _metadata(path)
    return metadata is not None and not {"tbft_patch", "tbft_card"} & set(metadata)


def _has_fields(*names: str) -> Callable[[Path], bool]:
    def is_one(path: Path) -> bool:
        if path.stat().st_size > _MAX_HEADER:
            return False
        value = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(value, dict) and set(names) <= set(value)

    return is_one


def _starts_with(mark: bytes) -> Callable[[Path], bool]:
    def is_one(path: Path) -> bool:
        with path.open("rb") as file:
            return mark in file.read(_START)

    return is_one


PATCH = Kind("a patch of tbft", ".safetensors", _has_key("tbft_patch"))
CARD = Kind("a source card", ".safetensors", _has_key("tbft_card"))
WEIGHTS = Kind("a checkpoint in .safetensors", ".safetensors", _are_weights)
REPORT = Kind("a report of tbft", ".html", _starts_with(b'name="generator" content="tbft'))
PROFILE = Kind("a profile", ".json", _has_fields("watts_per_core"))
RECORD = Kind("a record of tbft train", ".json", _has_fields("val_accuracy", "recipe", "versions"))
#: The keyword under which a sheet says what made it.
SHEET_MARK = ("Software", "tbft")
SHEET = Kind("a sheet of tbft data show", ".png", _starts_with("\0".join(SHEET_MARK).encode()))
