"""Hardware that is not there: trees of sysfs that count or show power, and a vcgencmd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

#: In the form in which the Raspberry Pi 5 prints it; 0.5 + 1.8 + 0.6 W on rails with both figures.
PMIC = """\
   3V3_SYS_A current(1)=0.15000000A
  VDD_CORE_A current(7)=2.00000000A
   1V1_SYS_A current(5)=0.54545454A
   3V3_SYS_V volt(9)=3.33333333V
  VDD_CORE_V volt(15)=0.90000000V
   1V1_SYS_V volt(13)=1.10000000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


def put(path: Path, content: object) -> None:
    """Write a file at once, as sysfs shows it: never empty, never in part."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(f"{content}\n")
    part.replace(path)


def zone(root: Path, place: str, name: str, microjoules: int = 0, most: int = 262_143_328_850) -> Path:
    """A zone of powercap; `place` such as ``intel-rapl:0``."""
    folder = root / "class" / "powercap" / place
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        put(folder / file, content)
    return folder


def ina219(root: Path, watts: float = 3.0) -> Path:
    folder = root / "class" / "hwmon" / "hwmon2"
    files = {"name": "ina219", "in0_input": 9, "in1_input": 5000, "curr1_input": round(200 * watts)}
    for file, content in {**files, "power1_input": round(1e6 * watts)}.items():
        put(folder / file, content)
    return folder


def vcgencmd(folder: Path, text: str = PMIC, status: int = 0) -> Path:
    """A command that prints `text` whatever it is asked."""
    (folder / "pmic.txt").write_text(text)
    command = folder / "vcgencmd"
    command.write_text(f"#!/bin/sh\ncat '{folder}/pmic.txt'\nexit {status}\n")
    command.chmod(0o755)
    return command


@contextmanager
def live(path: Path, content: Callable[[float], object]) -> Iterator[None]:
    """A file that says, whenever it is read, what `content` makes of the seconds since the start."""
    start, real = time.monotonic(), Path.read_text

    def read_text(read: Path, *args: str, **kwargs: str) -> str:
        if read == path:
            put(path, content(time.monotonic() - start))
        return real(read, *args, **kwargs)

    put(path, content(0.0))
    with mock.patch.object(Path, "read_text", read_text):
        yield


@contextmanager
def counting(folder: Path, watts: float, most: int, before: int = 0) -> Iterator[None]:
    """A zone that counts at `watts`, starting at `before` and again at 0 beyond `most` microjoules."""
    put(folder / "max_energy_range_uj", most)
    with live(folder / "energy_uj", lambda seconds: (before + int(1e6 * watts * seconds)) % most):
        yield
