"""Runs of a benchmark that are processes of their own, with one thread, and the file that keeps them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tbft.blocks.precision import gains_from_bfloat16
from tbft.files import atomic_path
from tbft.patches import versions

Run = dict[str, Any]


def in_own_process(cell: Run) -> Run:
    """The cell with what the script that runs now, called with ``--one CELL``, prints about it."""
    command = [sys.executable, *sys.argv, "--one", json.dumps(cell)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell}: {done.stderr}")
    return {**cell, **json.loads(done.stdout)}


def stored_runs(path: Path | None) -> list[Run]:
    """The runs in a file; none if there is no such file yet."""
    if path is None or not path.exists():
        return []
    runs: list[Run] = json.loads(path.read_text())["runs"]
    return runs


def missing(cells: list[Run], runs: list[Run]) -> list[Run]:
    """The cells of which there is no run."""
    return [cell for cell in cells if not any(cell.items() <= run.items() for run in runs)]


def store(path: Path, runs: list[Run], **summary: Any) -> None:
    """Write runs and what sums them up, with the machine and the versions."""
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "bfloat16": gains_from_bfloat16(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }
    content = {"machine": {**machine, **versions()}, **summary, "runs": runs}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
