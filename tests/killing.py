"""Commands that write, killed at any instant: what lies there afterwards is whole, old or new.

The commands run in forks of this process, so that no time goes into imports. A fork kills itself just before
its n-th operation on files, or is killed from outside after some time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import striped
from PIL import Image
from safetensors import safe_open

from tbft.cli import main
from tbft.diagnosis.card import SourceCard
from tbft.models import read_state
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch
from tbft.patches.installed import put_on, read_installed
from tbft.patches.keys import new_key, read_private, read_public
from tbft.tuning.checksummed import is_whole
from tbft.tuning.resume import PURPOSE
from tbft.tuning.row_file import write_rows
from tbft.verification.running import predict

RUN = "--weights base.pt --data set.npz --arm rear --epochs 2 --batch-size 16 --train 0.5 --test 0.2"
CACHED = "--cache-memory 0 --cache-folder caches --restart"
#: Commands by name; the first ones are quick.
COMMANDS = {
    "apply": "patch apply p1.safetensors --weights base.pt --out fresh.safetensors",
    "apply on top": "patch apply p2.safetensors --weights device.safetensors --out device.safetensors",
    "apply over": "patch apply p1.safetensors --weights base.pt --out other.safetensors",
    "revert": "patch revert --weights device.safetensors",
    "sign": "patch sign p1.safetensors --key workshop --serial 1",
    "new key": "keys new another",
    "trust": "keys trust keys/workshop.pub",
    "revoke": "keys revoke workshop",
    "sheet": "data show set.npz --drift contrast:5 --out sheet.png",
    "corrupt": "data corrupt set.npz --corruptions contrast --severity 3 --workers 1 --out noisy",
    "card": "card build digits --weights base.pt --data source.npz --out base.card.safetensors",
    "clear": "cache clear caches",
    "personalize": f"personalize digits {RUN} {CACHED} --out user.safetensors",
    "train": "train digits --data set.npz --epochs 2 --batch-size 16 --restart --out own.safetensors",
}
QUICK = tuple(COMMANDS)[:8]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("os.rename", "os.remove", "os.chmod", "os.truncate", "os.mkdir", "os.rmdir", "tempfile.mkstemp")


@dataclass(frozen=True)
class Instant:
    """When a command is killed: before its n-th operation on files, or after so many seconds."""

    command: str
    operation: int = 0
    seconds: float = 0.0


def instants(
    count: int, commands: tuple[str, ...], operations: Mapping[str, int], seed: int = 0
) -> list[Instant]:
    """So many instants over all commands; of three, two before one of its operations, one at any time."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        name = commands[i % len(commands)]
        if rng.random() < 2 / 3:
            found.append(Instant(name, operation=rng.randint(1, operations[name])))
        else:
            found.append(Instant(name, seconds=rng.uniform(0, 0.1 if name in QUICK else 2.0)))
    return found


def make_place(folder: Path) -> None:
    """What the commands work on, with results of earlier runs; the working directory, with its keys in it."""
    os.chdir(folder)
    os.environ.update(TBFT_KEYS="keys", TBFT_TRUST="trust", OMP_NUM_THREADS="1")
    samples = striped(120)
    np.savez("set.npz", images=samples.inputs, labels=samples.labels)
    torch.manual_seed(0)
    model = DigitsNet(10)
    predicted = predict(model, samples).argmax(1)  # a card is built of a model that is right
    np.savez("source.npz", images=samples.inputs, labels=predicted)
    state = model.state_dict()
    torch.save(state, "base.pt")
    for i in (1, 2):
        changed = {"fc.bias": torch.full((10,), float(i))}
        make_patch(state, changed, "rear").save(f"p{i}.safetensors")
        state = {**state, **changed}
    for name in ("device.safetensors", "other.safetensors"):
        put_on(Patch.load("p1.safetensors"), "base.pt", name)
    Path("caches").mkdir()
    for digit in "01":
        rows = [np.zeros((4, 4), np.float16)]
        write_rows(Path("caches", f"prefix-{digit * 32}.npy"), (4, 4), rows)
    new_key("workshop")
    Patch.load("p2.safetensors").save("user.safetensors")


def count_operations(command: str, template: Path, place: Path) -> int:
    """How many operations on files a command has."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)
    reads, writes = os.pipe()
    _, status = os.waitpid(_start(COMMANDS[command], place, report=writes), 0)
    assert status == 0, f"{command} ends in {os.waitstatus_to_exitcode(status)}"
    os.close(writes)
    with os.fdopen(reads) as file:
        return int(file.read())


def kill(at: Instant, template: Path, place: Path) -> str:
    """Run a command in a fresh copy of the template, kill it, and check what lies there; then run it again.

    Returns:
        ``killed``, or ``done`` if it was quicker.
    """
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)
    pid = _start(COMMANDS[at.command], place, at.operation)
    if at.seconds:
        time.sleep(at.seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    check_whole(place)
    _, again = os.waitpid(_start(COMMANDS[at.command], place), 0)
    told = os.waitstatus_to_exitcode(again)
    taken = at.command in ("new key", "revert", "apply on top") and told == 2  # it was done already
    assert told == 0 or taken, f"{at}: run again, it ends in {told}"
    check_whole(place)
    hidden = [p.name for p in place.rglob(".*") if p.parent != place / "caches"]
    assert not hidden, f"{at}: left behind {hidden}"
    return "killed" if os.WIFSIGNALED(status) else "done"


def check_whole(place: Path) -> None:
    """Every file is whole, and every patch on a checkpoint can be taken off."""
    for path in place.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            _CHECKS.get(path.suffix, _nothing)(path)
        except Exception as error:
            raise AssertionError(f"{path.name} is not whole: {error}") from error


def _start(command: str, place: Path, operation: int = 0, report: int | None = None) -> int:
    """Run a command in a fork; its process id. The descriptor `report` gets its number of operations."""
    pid = os.fork()
    if pid:
        return pid
    try:  # the fork never comes back
        os.chdir(place)
        sys.dont_write_bytecode = True  # no operations of the command itself
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(null, stream)
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        counted = _count_and_die_at(operation)
        status = main(command.split())
        if report is not None:
            os.write(report, b"%d" % len(counted))
        os._exit(status)
    except BaseException:
        os._exit(99)


def _count_and_die_at(operation: int) -> list[str]:
    """The operations on files from now on; the process is killed before the one of this number, from 1."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if writes or event in _EVENTS:
            seen.append(event)
            if len(seen) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def _safetensors(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "tbft_patch" in metadata:
        Patch.load(path)
    elif "tbft_card" in metadata:
        SourceCard.load(path)
    else:
        read_state(path)
        found = read_installed(path)
        assert all(found.undo_file(entry) for entry in found.log.entries), "its undo is gone"


def _resume(path: Path) -> None:
    assert is_whole(path, PURPOSE)


def _npy(path: Path) -> None:
    assert is_whole(path, path.name) if path.name.startswith("prefix-") else len(np.load(path))


def _nothing(path: Path) -> None:
    pass


_CHECKS = {
    ".safetensors": _safetensors,
    ".undo": Patch.load,
    ".pt": lambda path: _resume(path) if path.name.endswith(".resume.pt") else read_state(path),
    ".npy": _npy,
    ".npz": lambda path: dict(np.load(path)),
    ".png": lambda path: Image.open(path).load(),
    ".json": lambda path: json.loads(path.read_text()),
    ".key": lambda path: read_private(str(path)),
    ".pub": read_public,
}
