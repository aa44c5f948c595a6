"""Write the default install with the hash of every file: `python tools/hashes.py > requirements-hashed.txt`.

    pip install --require-hashes -r requirements-hashed.txt && pip install --no-deps tbft

pip then accepts only files that are identical, bit for bit, to those that were tested. The hashes are those
of the wheels that pip would choose here, so the file is only for this system and this version of Python.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    wanted = [line for line in requires("tbft") or [] if not re.search(r"extra\s*==", line)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += [
            "--only-binary=:all:",
            "--report",
            str(report),
            "-c",
            str(ROOT / "constraints.txt"),
            *wanted,
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        chosen = json.loads(report.read_text())["install"]
    system = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version().rpartition('.')[0]}"
    )
    print(f"# The default install on {system}; made by tools/hashes.py.")
    for package in sorted(chosen, key=lambda p: p["metadata"]["name"].lower()):
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        print(f"{name}=={version} --hash=sha256:{digest}")


if __name__ == "__main__":
    main()
