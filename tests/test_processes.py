"""How processes end: by a signal in one line, and workers with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import heed_interrupts

from tbft.cli import main
from tbft.models import read_state, save_weights
from tbft.models.digits import DigitsNet
from tbft.patches import make_patch

APPLY = "patch apply p.safetensors --weights base.safetensors --out out.safetensors".split()

CORRUPT = """
import numpy as np
from tbft.data import make_samples
from tbft.scenarios.writing import write_corruptions
if __name__ == "__main__":
    samples = make_samples(np.zeros((60_000, 32, 32, 3), np.uint8), np.zeros(60_000, int))
    write_corruptions(samples, ["contrast"], "out", workers=2)
"""
BUSY = """
import time
from tbft.metering.loads import Busy
with Busy("plain", 2):
    time.sleep(600)
"""


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heed_interrupts,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("seconds", [0.3, 0.9])
def test_a_signal_ends_in_one_line_also_in_imports(number, status, seconds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with _start("-X", "importtime", "-m", "tbft", *APPLY) as process:
        for line in process.stderr:  # an import has begun, of torch before long
            if "tbft.cli.signals" in line:
                break
        time.sleep(seconds)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    said = [line for line in error.splitlines() if not line.startswith("import time:")]
    if process.returncode != 2:  # it was quicker, and found no files
        assert process.returncode == status
        assert len(said) == 1 and said[0].endswith("no half-written file is left")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see children")
@pytest.mark.parametrize(("script", "number"), [(CORRUPT, signal.SIGKILL), (BUSY, signal.SIGKILL)])
def test_workers_end_with_whoever_started_them(script, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("work.py").write_text(script)
    with _start("work.py") as process:
        end = time.monotonic() + 60
        while len(workers := _children(process.pid)) < 2:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=60)
    end = time.monotonic() + 60
    while alive := [pid for pid in workers if _runs(pid)]:
        assert time.monotonic() < end, f"{alive} outlived it"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_closed_standard_streams_are_not_taken_for_files_that_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = DigitsNet(10).state_dict()
    save_weights(state, "base.safetensors")
    make_patch(state, {"fc.bias": torch.ones(10)}, "rear").save("p.safetensors")
    command = "tbft patch apply p.safetensors --weights base.safetensors --out"
    for out, status in (("out.safetensors", 0), ("out.pt", 2)):
        pid = os.fork()
        if not pid:
            os.closerange(0, 3)
            sys.argv, sys.stdin, sys.stdout, sys.stderr = [*command.split(), out], None, None, None
            os._exit(main())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    assert read_state("out.safetensors")["fc.bias"].tolist() == [1] * 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_metered_command_is_ended_by_the_signal_that_ends_the_meter(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with _start(
        "-m", "tbft", "energy", "measure", "--sensor", "none", "--", sys.executable, "-c", script
    ) as process:
        child = int(process.stdout.readline())
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not _runs(child)
