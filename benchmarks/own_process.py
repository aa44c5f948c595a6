"""Runs of a benchmark that are processes of their own, with one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from records import Run


def in_own_process(cell: Run) -> Run:
    """The cell with what the script that runs now, called with ``--one CELL``, prints about it."""
    command = [sys.executable, *sys.argv, "--one", json.dumps(cell)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell}: {done.stderr}")
    return {**cell, **json.loads(done.stdout)}
