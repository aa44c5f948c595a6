"""The content of a checkpoint file as plain containers and tensors; no code of the file is run.

Files of ``torch.save`` are read with ``weights_only=True``. What torch refuses to build besides the weights
(settings, metrics, schedulers, the classes of a pickled model) becomes a :class:`Placeholder`: an object of
this module that keeps what the file says about it, and whose class the file cannot choose.
"""

from __future__ import annotations

import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tbft.blocks.tensors import State, fingerprint
from tbft.errors import CheckpointError
from tbft.models.file_kinds import checkpoint_format

#: Names in `builtins` that are types, or found in pickles of harmless objects; others would be calls.
_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset getattr int list object range set slice str tuple "
    "type".split()
)
#: A file of weights has no use for these: it is refused entirely.
_REFUSED = frozenset(
    "os posix nt sys subprocess commands shutil socket importlib runpy pty ctypes code codeop".split()
)
#: Key of a ``.safetensors`` file's metadata under which tbft writes the fingerprint of the state.
FINGERPRINT = "tbft_fingerprint"

_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")
_ITEMS = re.compile(r"Can only (SETITEMS?|append to|extend) .*got <class '([^']+)'>")


class Placeholder:
    """Stands for an object of a class that is not imported.

    Attributes:
        args: its arguments.
        state: its attributes.
    """

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Any:
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        root: mappings, lists, tensors, numbers, texts and placeholders.
        replaced: names of the classes and functions that placeholders stand for.
    """

    root: Any
    replaced: tuple[str, ...] = ()


def read_content(path: Path) -> Content:
    """Read a ``.safetensors`` file, or what ``torch.save`` wrote; the name of the file does not matter.

    Raises:
        CheckpointError: missing, damaged, of another kind, or a pickle that would run code.
    """
    if checkpoint_format(path) == "torch":
        return _read_torch(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for kind, option in (("patch", "--patch"), ("card", "--card")):
                if f"tbft_{kind}" in metadata:
                    raise CheckpointError(f"{path} is a tbft {kind}, not a checkpoint: give it with {option}")
            state: State = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    if FINGERPRINT in metadata and fingerprint(state) != metadata[FINGERPRINT]:
        raise CheckpointError(f"{path} is damaged: its checksum does not match; get a fresh copy")
    return Content(state)


def _read_torch(path: Path) -> Content:
    stands_for = dict.fromkeys(_named_globals(path), "object")
    while True:
        _refuse_calls(path, stands_for)
        try:
            return Content(_load(path, stands_for), tuple(sorted(stands_for)))
        except pickle.UnpicklingError as error:
            if not _learned(stands_for, str(error)):
                raise CheckpointError(_refusal(path, str(error))) from error
        except Exception as error:  # a damaged archive can raise almost anything
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"{path} is damaged, or not a checkpoint: {reason}") from error


def _load(path: Path, stands_for: dict[str, str]) -> Any:
    allowed: list[Any] = [(_stand_in(name, kind), name) for name, kind in stands_for.items()]
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of protocols and storages; nothing for the user to do
        with path.open("rb") as file:  # torch goes by the name of a path, and a name may be wrong
            return torch.load(file, map_location="cpu", weights_only=True)


def _stand_in(name: str, kind: str) -> type:
    """A class that takes the place of `name` while a file is read."""
    module, _, qualname = name.rpartition(".")
    body: dict[str, Any] = {"__module__": module, "__qualname__": qualname}
    if kind != "object":  # torch fills plain dicts and lists alone
        body["__new__"] = lambda cls, *args: {} if kind == "mapping" else []
    return type(qualname, (Placeholder,), body)


def _learned(stands_for: dict[str, str], message: str) -> bool:
    """Note what torch has just refused; False if that brings nothing new."""
    if found := _GLOBAL.search(message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        kind = "object"
    elif found := _ITEMS.search(message):
        name, kind = found[2], "mapping" if found[1].startswith("SETITEM") else "sequence"
        if name not in stands_for:
            return False
    else:
        return False
    if stands_for.get(name) == kind:
        return False
    stands_for[name] = kind
    return True


def _named_globals(path: Path) -> list[str]:
    """The classes and functions that an archive names and torch does not know as harmless."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # older files, older torch: learned one by one
        return []


def _refuse_calls(path: Path, names: dict[str, str]) -> None:
    for name in names:
        module, _, last = name.rpartition(".")
        calls = module == "builtins" and not (last in _BUILTINS or last.endswith(("Error", "Exception")))
        if calls or module.partition(".")[0] in _REFUSED:
            raise CheckpointError(
                f"{path} is refused: it asks for {name}, which could run code and has no place in a "
                "checkpoint; do not trust this file"
            )


def _refusal(path: Path, message: str) -> str:
    """torch's refusal in our words, with a remedy."""
    reason = message.split("WeightsUnpickler error:")[-1].strip().partition("\n")[0]
    if "Unsupported operand" in reason:
        reason = "it was saved with another pickle protocol than torch's own"
    code = (
        f"from torch import load, save; c = load({str(path)!r}, weights_only=False); "
        "save(c.state_dict() if hasattr(c, 'state_dict') else c['state_dict'], 'weights.pt')"
    )
    return (
        f"{path} is refused: it is damaged, or holds more than tensors and plain data, which could run code "
        f"({reason}). Where you trust it, write its weights alone with torch.save (under the key they have): "
        f'python -c "{code}"'
    )
