"""Hardware that is not there: trees of sysfs that count or show power, and a vcgencmd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
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


def ina3221(root: Path, *rails: tuple[str, int, int], place: str = "hwmon1") -> Path:
    """A chip of (label, mV, mA) a channel, and what its driver adds: shunt voltages and sums."""
    folder = root / "class" / "hwmon" / place
    put(folder / "name", "ina3221")
    for n, (label, millivolts, milliamperes) in enumerate(rails, 1):
        if label:
            put(folder / f"in{n}_label", label)
        for file, value in ((f"in{n}_input", millivolts), (f"curr{n}_input", milliamperes)):
            put(folder / file, value)
        put(folder / f"in{n + 3}_input", 2 * milliamperes)
    put(folder / "curr4_input", sum(milliamperes for *_, milliamperes in rails))
    put(folder / "in7_input", 4200)
    put(folder / "in7_label", "sum of shunt voltages")
    return folder


def battery(root: Path, name: str, status: str = "Discharging", microwatts: int | None = None) -> Path:
    folder = root / "class" / "power_supply" / name
    put(folder / "type", "Battery")
    put(folder / "status", status)
    if microwatts is not None:
        put(folder / "power_now", microwatts)
    return folder


def nvml(*cards: tuple[object, object]) -> SimpleNamespace:
    """The module pynvml with cards of (millijoules, milliwatts); None: not supported."""

    class NVMLError(Exception):
        pass

    def value_of(which: int) -> Callable[[int], object]:
        def read(handle: int) -> object:
            if cards[handle][which] is None:
                raise NVMLError("Not Supported")
            return cards[handle][which]

        return read

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetTotalEnergyConsumption=value_of(0),
        nvmlDeviceGetPowerUsage=value_of(1),
    )


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
