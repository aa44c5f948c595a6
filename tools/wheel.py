"""List a wheel and refuse what does not belong in it: `python tools/wheel.py dist/*.whl`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

#: Limits in bytes: of the wheel, and of each file in it but the weights of the two base models.
MAX_WHEEL, MAX_FILE = 4 << 20, 200 << 10


def faults(path: Path) -> list[str]:
    """What is wrong with a wheel; prints its contents, largest first."""
    found = [] if path.name.endswith("-py3-none-any.whl") else [f"{path.name} is not for every machine"]
    if path.stat().st_size > MAX_WHEEL:
        found.append(f"{path.name} has {path.stat().st_size:,} bytes, at most {MAX_WHEEL:,} are allowed")
    with zipfile.ZipFile(path) as wheel:
        for info in sorted(wheel.infolist(), key=lambda i: -i.file_size):
            print(f"{info.file_size:>10,}  {info.filename}")
            found += _faults(PurePosixPath(info.filename), info.file_size)
    print(f"{path.stat().st_size:>10,}  {path.name}")
    return found


def _faults(name: PurePosixPath, size: int) -> list[str]:
    if name.parts[0] != "tbft" and not name.parts[0].endswith(".dist-info"):
        return [f"{name} is outside the package"]
    if {"tests", "paper", "__pycache__"} & set(name.parts) or name.suffix in {".so", ".pyc"}:
        return [f"{name} does not belong in the wheel"]
    is_weights = name.parent.name == "bases" and name.suffix == ".safetensors"
    return [f"{name} has {size:,} bytes"] if size > MAX_FILE and not is_weights else []


if __name__ == "__main__":
    if problems := [fault for name in sys.argv[1:] for fault in faults(Path(name))]:
        sys.exit("\n".join(problems))
