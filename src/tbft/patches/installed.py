"""Checkpoint files that patches are put on and taken off, in order.

Such a file carries a log of its patches in its metadata, so that state and log are replaced in one step.
Its undo patch lies beside it, in a file named by the states that it leads from and to. That is written
first, and never takes the place of another: wherever the work is cut off, what is there can be undone.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tbft.blocks.tensors import State, fingerprint
from tbft.errors import PatchError, TbftError
from tbft.json_text import decode
from tbft.models import read_state, read_state_for, save_weights
from tbft.models.file_content import FINGERPRINT
from tbft.patches.header import now
from tbft.patches.log import Entry, Log
from tbft.patches.patch import Patch
from tbft.patches.trust import is_required
from tbft.schema import build

KEY = "tbft_log"
SUFFIX = ".undo"


@dataclass(frozen=True, eq=False)
class Installed:
    """A checkpoint file: its state, and the log of what was put on."""

    path: Path
    state: State
    log: Log

    @property
    def fingerprint(self) -> str:
        """Of the state."""
        return fingerprint(self.state)

    def save(self, path: Path) -> None:
        """Write state and log in one step."""
        metadata = {KEY: json.dumps(asdict(self.log)), "format": "pt"}
        save_weights(self.state, path, metadata)

    @property
    def folder(self) -> Path:
        """Where the file itself lies, and what undoes its patches: not where links to it do."""
        return self.path.resolve().parent

    def undo_file(self, entry: Entry) -> Path | None:
        """The file beside that takes a patch off again; None if it is not there."""
        for path in sorted(self.folder.glob(f"*.{_link(entry)}{SUFFIX}")):
            header = Patch.load(path).header
            if (header.base_fingerprint, header.tuned_fingerprint) == (entry.tuned, entry.base):
                return path
        return None


def read_installed(path: str | Path, patch: Patch | None = None) -> Installed:
    """A checkpoint and its log, which is empty for any that no patch was put on.

    Args:
        patch: whose base is looked for in the file; see :func:`tbft.models.read_state_for`.

    Raises:
        CheckpointError: as :func:`read_state`.
        PatchError: the log is damaged, or of another state.
    """
    path = Path(path)
    state, metadata = _logged(path)
    text = metadata.get(KEY)
    if text is None:
        return Installed(path, _state(path, patch), Log())
    log = build(Log, decode(text, f"the log of {path}", PatchError), f"the log of {path}", PatchError)
    found = fingerprint(state)
    states = [entry.base for entry in log.entries[1:]] + [found]
    written = metadata.get(FINGERPRINT, found)
    if written != found or (log.entries and [entry.tuned for entry in log.entries] != states):
        raise PatchError(
            f"{path} is not the state that its log ends in: it is damaged, or was changed by something else; "
            "get a fresh copy of it, or start from the base"
        )
    return Installed(path, state, log)


def put_on(patch: Patch, weights: str | Path, out: str | Path) -> tuple[Installed, Path]:
    """Write base + patch, and beside it the file that undoes it; returns both, or leaves neither.

    Raises:
        CheckpointError, PatchError, WriteError: nothing was changed.
    """
    out, base = Path(out), read_installed(weights, patch)
    tuned, undo = patch.applied_to(base.state), patch.undo(base.state)
    entry, newest = _entry(patch), max(base.log.newest, _newest(out))
    if is_required() and entry.serial < newest:
        raise PatchError(
            f"the patch is older (serial {entry.serial}) than one that was put on {out} before ({newest}): "
            "to use it anyway, sign it again with a higher --serial"
        )
    made = Installed(out, tuned, Log((*base.log.entries, entry), max(newest, entry.serial)))
    path = made.folder / f"{out.resolve().name}.{_link(entry)}{SUFFIX}"
    with _nothing_new_on_failure(made):
        undo.save(path)
        _carry(base, made)
        made.save(out)
    return made, path


def take_off(weights: str | Path, out: str | Path, undo: Patch | None = None) -> Installed:
    """Write the state without the patch that was put on last.

    Args:
        undo: what undoes it; by default the file that lies beside is looked for.

    Raises:
        CheckpointError, PatchError, WriteError: nothing to undo, or not with this; nothing was changed.
    """
    tuned = read_installed(weights, undo)
    last = tuned.log.entries[-1] if tuned.log.entries else None
    if undo is None:
        undo = _found(tuned, last)
    if last is not None and undo.header.tuned_fingerprint != last.base:
        raise PatchError(f"this does not undo the patch that was put on {weights} last, of {last.applied}")
    if last is not None:  # the log says where it leads, and so it needs no signature
        undo = replace(undo, source=None)
    base = undo.applied_to(tuned.state)
    made = Installed(Path(out), base, replace(tuned.log, entries=tuned.log.entries[:-1]))
    with _nothing_new_on_failure(made):
        _carry(tuned, made)
        made.save(made.path)
    return made


def _state(path: Path, patch: Patch | None) -> State:
    if patch is None:
        return read_state(path)
    header = patch.header
    return read_state_for(path, patch.tensors, {header.base_fingerprint, header.tuned_fingerprint})


def _found(tuned: Installed, last: Entry | None) -> Patch:
    """The undo of the last patch, by the log, or by the fingerprint of the state where there is none."""
    if last is not None:
        if path := tuned.undo_file(last):
            return Patch.load(path)
        raise PatchError(
            f"beside {tuned.path} lies no file *.{_link(last)}{SUFFIX}, which `tbft patch apply` left: "
            "give it with --undo FILE"
        )
    name = fingerprint(tuned.state)[:12]
    undos = [Patch.load(path) for path in sorted(tuned.folder.glob(f"*.{name}-to-*{SUFFIX}"))]
    if len({undo.header.tuned_fingerprint for undo in undos}) != 1:
        what = "no patch on it that could be taken off" if not undos else "several patches that it may have"
        raise PatchError(f"{tuned.path} has {what}: give what undoes it with --undo FILE")
    return undos[0]


def _entry(patch: Patch) -> Entry:
    """What the log says of a patch; of its signature only if a trusted key made it."""
    header = patch.header
    entry = Entry(header.base_fingerprint, header.tuned_fingerprint, header.arm, header.created, now())
    if patch.signature is None:
        return entry
    try:
        return replace(entry, signer=patch.signer().name, serial=patch.signature.serial)
    except TbftError:  # where a signature is required, this has been refused before
        return entry


def _newest(out: Path) -> int:
    """The highest serial that was ever put on a file that may be there."""
    try:
        return read_installed(out).log.newest if out.exists() else 0
    except TbftError:
        return 0  # it is written over


def _link(entry: Entry) -> str:
    return f"{entry.tuned[:12]}-to-{entry.base[:12]}"


def _carry(source: Installed, made: Installed) -> None:
    """The undo patches below are copied along where a file is written to another folder."""
    if source.folder == made.folder:
        return
    for entry in source.log.entries:
        if path := source.undo_file(entry):
            Patch.load(path).save(made.folder / f"{made.path.resolve().name}.{_link(entry)}{SUFFIX}")


@contextmanager
def _nothing_new_on_failure(made: Installed) -> Iterator[None]:
    """Remove the undo patches of this file, and of no other, that the body has added, if it fails."""
    own = f"{glob.escape(made.path.resolve().name)}.{'?' * 12}-to-{'?' * 12}{SUFFIX}"
    before = set(made.folder.glob(own))
    try:
        yield
    except BaseException:
        for path in set(made.folder.glob(own)) - before:
            path.unlink(missing_ok=True)
        raise


def _logged(path: Path) -> tuple[State, dict[str, str]]:
    """State and metadata of a file with a log, with the model's own names; both empty for any other.

    Both are read from the same file, even if the path is replaced meanwhile.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return {}, {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            keys = file.keys() if KEY in metadata else []
            return {key: file.get_tensor(key) for key in keys}, metadata
    except (SafetensorError, OSError):
        return {}, {}  # read_state reports what is wrong
