"""A long set: block 2 tuned on 50,000 pictures with the prefix cached on disk, killed and resumed.

    TBFT_DATA=... python benchmarks/long_set.py --json benchmarks/results/long_set.json

The JPEG copy of CIFAR-10's training set with Gaussian noise, severity 5, and the released ResNet-26. The
first process is killed after its first epoch; the second finds the cache and the checkpoint and finishes.
Resident memory is the process's peak during tuning minus that before it, with the pictures loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from records import parser_of, store

from tbft.blocks.tensors import fingerprint
from tbft.data import read
from tbft.metering import Meter
from tbft.models import find_model, load_weights
from tbft.plan import Plan, find_recipe
from tbft.scenarios import apply_drift
from tbft.tuning.execution import tune_samples
from tbft.tuning.loop import FitState
from tbft.tuning.options import Tuning
from tbft.tuning.prefix_cache import CachePolicy


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_run(arguments.one, arguments.kill)))
        return
    with tempfile.TemporaryDirectory() as folder:
        killed = subprocess.run([sys.executable, __file__, "--one", folder, "--kill"], check=False)
        files = {p.name: p.stat().st_size for p in Path(folder).iterdir()}
        again = subprocess.run(
            [sys.executable, __file__, "--one", folder], check=True, capture_output=True, text=True
        )
    record = {
        "killed_by_signal": -killed.returncode,
        "left_bytes": files,
        "resumed": json.loads(again.stdout),
    }
    print(json.dumps(record, indent=1))
    if arguments.json:
        store(arguments.json, **record)


def one_run(folder: Path, kill: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    data = Path(os.environ["TBFT_DATA"])
    preset = find_model("resnet26-cifar10")
    model = preset.build()
    load_weights(model, data / "checkpoints" / "resnet26_cifar10_released.pth")
    samples = apply_drift(read(data / "cifar10" / "train.tar", preset.inputs), "gaussian_noise:5")
    plan = Plan("layer2", find_recipe("fast"), statistics=None)
    epochs_done: list[int] = []

    def after_epoch(state: FitState) -> None:
        epochs_done.append(len(state.history))
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)

    before = resident()
    with Meter() as meter:
        start = time.process_time()
        cache = CachePolicy(memory_bytes=256 << 20, folder=folder)
        how = Tuning(cache, resume_path=folder / "run.pt", on_epoch=after_epoch)
        tuned = tune_samples(preset.split(model), plan, samples, None, how)
    peak = meter.measurement.peak_rss_bytes
    return {
        "samples": len(samples),
        "epochs_in_this_process": epochs_done,
        "cpu_seconds": time.process_time() - start,
        "energy_joules": meter.measurement.energy_joules,
        "energy_kind": meter.measurement.energy_kind,
        "resident_bytes_before": before,
        "resident_bytes_peak": peak,
        "resident_mebibytes_grown": None if peak is None else (peak - before) / 2**20,
        "tuned_fingerprint": fingerprint(tuned.changed),
    }


def resident() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
