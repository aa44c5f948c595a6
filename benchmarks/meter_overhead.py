"""The cost of the meter itself: its readings, and the slowdown of the metered work.

    python benchmarks/meter_overhead.py --json benchmarks/results/meter_overhead.json

Sensors are files of a simulated sysfs tree, and a shell script in place of the Raspberry Pi's ``vcgencmd``:
they cost what reading such files and starting such a process costs here, without the hardware behind them.
``share`` is the processor time of an idle metered process, including the processes that it starts, divided
by elapsed time. ``slowdown`` is the processor time of training steps with the meter divided by that
without, medians over interleaved repeats in one process with one thread.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, pstdev
from typing import Any

import torch
from records import machine, parser_of, store

from tbft.metering import NO_SENSOR, Meter, Places, Sensor, find_sensor
from tbft.models.resnet26 import ResNet26

#: Sensor and seconds between readings; None: the sensor's default.
CASES: list[tuple[str, float | None]] = [
    ("none", None),
    ("rapl", None),
    ("ina219", None),
    ("pmic", None),
    ("rapl", 0.001),
]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds to measure each share")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        places = made_up(Path(folder))
        runs = [one_run(n, p, places, arguments.seconds, arguments.repeats) for n, p in CASES]
    print(f"{machine()}, {arguments.repeats} repeats")
    print(f"{'sensor':10}{'period s':>9}{'share %':>9}{'slowdown':>10}")
    for run in runs:
        slow = f"{run['slowdown']:.4f} +- {run['slowdown_spread']:.4f}"
        print(f"{run['sensor']:10}{run['period_seconds']:9.3f}{100 * run['share']:9.3f}  {slow}")
    if arguments.json:
        store(arguments.json, runs=runs)


def one_run(
    name: str, period_seconds: float | None, places: Places, seconds: float, repeats: int
) -> dict[str, Any]:
    sensor = NO_SENSOR if name == "none" else find_sensor(name, places)
    slowdowns = compared(sensor, period_seconds, training_steps(), repeats)
    return {
        "sensor": name,
        "period_seconds": period_seconds or sensor.period_seconds,
        "share": share(sensor, period_seconds, seconds),
        "slowdown": median(slowdowns),
        "slowdown_spread": pstdev(slowdowns),
        "repeats": repeats,
    }


def share(sensor: Sensor, period_seconds: float | None, seconds: float) -> float:
    """Processor time of the meter alone, including child processes, divided by elapsed time."""
    before = spent()
    with Meter(sensor, period_seconds=period_seconds) as meter:
        time.sleep(seconds)
    return (spent() - before) / meter.measurement.wall_seconds


def spent() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def compared(
    sensor: Sensor, period_seconds: float | None, work: Callable[[], None], repeats: int
) -> list[float]:
    """Ratios of processor time with and without the meter; the first pair is the warm-up."""
    ratios = []
    for _ in range(repeats + 1):
        start = spent()
        work()
        plain = spent() - start
        with Meter(sensor, period_seconds=period_seconds):
            start = spent()
            work()
            metered = spent() - start
        ratios.append(metered / plain)
    return ratios[1:]


def training_steps() -> Callable[[], None]:
    """Six steps of a ResNet-26 on 48 random pictures, as `fast` makes them."""
    torch.manual_seed(0)
    model = ResNet26(10, 32)
    x, y = torch.randn(48, 3, 32, 32), torch.arange(48) % 10

    def work() -> None:
        for _ in range(6):
            torch.nn.functional.cross_entropy(model(x), y).backward()

    return work


def made_up(folder: Path) -> Places:
    """A tree with two packages, memory and a current monitor, and a command that prints rails."""
    for place, name in (("0", "package-0"), ("1", "package-1"), ("0:0", "dram"), ("1:0", "dram")):
        zone = folder / "class" / "powercap" / f"intel-rapl:{place}"
        zone.mkdir(parents=True)
        for file, content in (("name", name), ("energy_uj", 1), ("max_energy_range_uj", 262_143_328_850)):
            (zone / file).write_text(f"{content}\n")
    chip = folder / "class" / "hwmon" / "hwmon0"
    chip.mkdir(parents=True)
    shown = {"name": "ina219", "in1_input": "5000", "curr1_input": "600", "power1_input": "3000000"}
    for file, text in shown.items():
        (chip / file).write_text(f"{text}\n")
    rails = "".join(f"R{i}_A current({i})=0.1A\nR{i}_V volt({i + 12})=3.3V\n" for i in range(12))
    command = folder / "vcgencmd"
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{rails}END\n")
    command.chmod(0o755)
    return Places(folder, str(command))


if __name__ == "__main__":
    main()
