"""Small and odd machines: what works there, and what is said where something does not."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import striped

from tbft.cli import main
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

PERSONALIZE = (
    "personalize digits --weights base.pt --data set.npz --arm late --epochs 1 --batch-size 16 --train 0.5 "
    "--test 0.2 --cache-memory 0 --cache-folder . --out user.safetensors"
)
APPLY = "patch apply p.safetensors --weights base.pt --out tuned.safetensors"
READING = (
    "patch show p.safetensors",
    "patch verify p.safetensors --weights base.pt",
    "evaluate digits --weights base.pt --patch p.safetensors --data set.npz",
    "data show set.npz",
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = DigitsNet(10).state_dict()
    torch.save(state, "base.pt")
    make_patch(state, {"fc.bias": torch.ones(10)}, "rear").save("p.safetensors")
    samples = striped(120)
    np.savez("set.npz", images=samples.inputs, labels=samples.labels)
    return tmp_path


def run(limit: Callable[[], object], command: str) -> tuple[int, str]:
    """Exit status and output of a command in a fork of this process, under a limit."""
    pid = os.fork()
    if not pid:
        status = 99
        try:
            out = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.close(out)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
            limit()
            status = main(command.split())
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), Path("said.txt").read_text()


def works(limit: Callable[[], object], *commands: str) -> None:
    for command in commands:
        status, said = run(limit, command)
        assert status == 0, f"{command}: {status}, {said}"
        assert "Traceback" not in said


def refuses(limit: Callable[[], object], command: str, message: str) -> None:
    status, said = run(limit, command)
    assert status == 2, f"{command}: {status}, {said}"
    assert message in said and "Traceback" not in said


def one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def no_proc() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])

    sys.addaudithook(hook)


def no_home() -> None:
    def nobody(_: int) -> None:
        raise KeyError

    os.environ.pop("HOME", None)
    os.environ.pop("XDG_CONFIG_HOME", None)
    pwd.getpwuid = nobody  # type: ignore[assignment]


def clock_set_back() -> None:
    time.time = lambda: 1000.0  # type: ignore[assignment]


def few_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(3, 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))


def read_only() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (writes or event in ("os.rename", "os.remove", "os.mkdir")) and arguments[0] != os.devnull:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments[0])

    sys.addaudithook(hook)


def no_network() -> None:
    def hook(event: str, _: tuple[Any, ...]) -> None:
        assert not event.startswith("socket."), event

    sys.addaudithook(hook)


def all_at_once() -> None:
    for limit in (one_core, no_proc, no_home, clock_set_back, no_network, few_files):
        limit()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [one_core, no_proc, no_home, clock_set_back, no_network, few_files])
def test_patches_and_evaluation_work_on_odd_machines(limit, place):
    works(limit, *READING, APPLY, "patch revert --weights tuned.safetensors", "cache show")


@pytest.mark.filterwarnings("ignore")
def test_adaptation_works_on_a_machine_with_all_the_limits(place):
    works(all_at_once, PERSONALIZE)
    works(all_at_once, "patch apply user.safetensors --weights base.pt --out tuned.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_without_a_home_keys_need_a_named_folder(place):
    refuses(no_home, "keys show", "name the folder of keys by $TBFT_")


@pytest.mark.filterwarnings("ignore")
def test_on_a_read_only_disk_reading_works_and_writing_is_refused_before_the_work(place):
    works(read_only, *READING)
    for command in (PERSONALIZE, APPLY):
        refuses(read_only, command, "Read-only file system; write elsewhere")


SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))
from tbft.cli import main
status = main(sys.argv[1].split())
if status == 0:
    sys.exit(main("evaluate digits --weights base.pt --data large.npz".split()))
sys.exit(90 + status)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="RLIMIT_DATA counts all memory of a process on Linux alone"
)
def test_in_512_mib_a_small_network_is_adapted_and_what_is_too_large_is_refused(place):
    np.savez("large.npz", x=np.zeros((3_000_000, 8, 8, 1), np.uint8), y=np.zeros(3_000_000, np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", SMALL, PERSONALIZE], capture_output=True, text=True, env=os.environ
    )
    assert Patch.load("user.safetensors").tensors
    assert done.returncode == 2, done.stderr[-1000:]
    assert "not enough memory" in done.stderr and "Traceback" not in done.stderr


SHRINKING = """
import os, sys, numpy as np
from tbft.cli import main, datasets
from tbft.data import read

def run(arguments):
    samples = read(arguments.data)
    os.truncate("X.npy", 4096)
    samples.batch(np.arange(len(samples)))

datasets.run_show = run
sys.argv = ["tbft", "data", "show", "."]
sys.exit(main())
"""


def test_a_mapped_file_that_gets_shorter_while_it_is_read_ends_in_one_line(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((200, 32, 32, 3), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(200) % 2)
    done = subprocess.run([sys.executable, "-c", SHRINKING], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "tbft: a file of arrays was truncated while it was read; run this again once it is complete"
    ]


@pytest.mark.parametrize("limit", [0, 4096, 40_000, 150_000])
@pytest.mark.parametrize("command", [APPLY, "data show set.npz --drift contrast:5 --out sheet.png"])
def test_wherever_the_disk_gets_full_nothing_half_written_is_left(place, command, limit):
    out = Path(command.split()[-1])
    out.write_bytes(b"old")  # is replaced whole, or kept
    before = {p.name for p in place.iterdir()}
    status, said = run(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)), command)
    if status:
        assert (status, out.read_bytes()) == (2, b"old")
        assert "Traceback" not in said
    left = {p.name for p in place.iterdir()} - before
    assert not [name for name in left if name.endswith(".part")]
