"""What benchmarks share: their options, and their JSON file with the machine and versions that made it."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from tbft.blocks.precision import gains_from_bfloat16
from tbft.files import atomic_path
from tbft.patches import versions

Run = dict[str, Any]


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the description with its lines as they are."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def machine(threads: int = 1) -> dict[str, Any]:
    """The machine and the versions, as far as they affect time."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "bfloat16": gains_from_bfloat16(),
        "amx": torch.cpu._is_amx_tile_supported(),
        **versions(),
    }


def store(path: Path, **content: Any) -> None:
    """Write the machine and the content; a `machine` in the content replaces it."""
    write(path, {"machine": machine(), **content})


def write(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stored_runs(path: Path | None) -> list[Run]:
    """The runs in a file; none if there is no such file yet."""
    if path is None or not path.exists():
        return []
    runs: list[Run] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return runs


def missing(cells: list[Run], runs: list[Run]) -> list[Run]:
    """The cells of which there is no run."""
    return [cell for cell in cells if not any(cell.items() <= run.items() for run in runs)]
