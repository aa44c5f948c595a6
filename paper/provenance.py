"""What a record was made with: code, machine, time. No torch here."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]
#: What a result depends on, below the root.
CODE = ("paper", "src")


def commit() -> dict[str, Any]:
    """The commit of the code, and whether the code differs from it; None without git."""
    # Copied into some other project's folder, the code is not part of that project's commits.
    ours = _git("ls-files", "--error-unmatch", __file__) is not None
    revision = _git("rev-parse", "HEAD") if ours else None
    changes = _git("status", "--porcelain", "--", *CODE)
    return {"commit": revision, "dirty": None if revision is None or changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """The machine, as far as it affects time; with the GPU, if the device is one."""
    found = {"processor": _processor(), "system": platform.system(), "cores": os.cpu_count()}
    if device is not None and device.type == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def now() -> str:
    """The current time in UTC, to the second.

    >>> now()[-1]
    'Z'
    """
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
