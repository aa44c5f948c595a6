"""``tbft energy``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbft.cli import calibrating
from tbft.cli.common import Subparsers, add_json, add_meter, command, load_meter, number, print_json
from tbft.errors import TbftError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.metering import Measurement, Profile, Sensor

PROBE_EXAMPLES = "tbft energy probe\ntbft energy probe --json"
MEASURE_EXAMPLES = """
tbft energy measure -- python train.py
tbft energy measure --sensor rapl --idle 10 -- sleep 5
tbft energy measure --profile raspberry-pi-5 --json -- python train.py
"""
LOG_EXAMPLES = """
tbft energy log meter.csv --start 1764100000 --seconds 95
tbft energy log meter.csv --start 1764100000 --seconds 95 --marker 1764099990
"""


def add(commands: Subparsers) -> None:
    top = commands.add_parser(
        "energy", help="measure the energy of commands, find sensors, make profiles", allow_abbrev=False
    )
    actions = top.add_subparsers(title="actions", metavar="ACTION", required=True)
    probe = command(
        actions, "probe", "show what can measure energy on this machine, and what it covers", PROBE_EXAMPLES
    )
    add_json(probe)
    probe.set_defaults(run=run_probe)

    measure = command(actions, "measure", "meter a command and pass on its exit status", MEASURE_EXAMPLES)
    add_meter(measure)
    measure.add_argument(
        "--idle", type=number, metavar="S", help="measure the idle machine first, for S seconds"
    )
    measure.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on stdout; the command's own output goes to stderr",
    )
    measure.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="command to run")
    measure.set_defaults(run=run_measure)

    calibrating.add(actions)

    log = command(actions, "log", "read the energy of a span of time from a meter's log", LOG_EXAMPLES)
    log.add_argument("log", metavar="FILE", help="CSV with time and watts or joules")
    log.add_argument("--start", type=number, required=True, metavar="T", help="start, seconds since 1970")
    log.add_argument("--seconds", type=number, required=True, metavar="S", help="duration of the work")
    clock = log.add_mutually_exclusive_group()
    clock.add_argument(
        "--offset", type=number, default=0.0, metavar="S", help="seconds to add to the log's clock"
    )
    clock.add_argument("--marker", type=number, metavar="T", help="true time of the log's marked row")
    add_json(log)
    log.set_defaults(run=run_log)


def run_probe(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.metering import Places, find_sensors
    from tbft.metering.profile import shipped_profiles
    from tbft.metering.registry import best_sensor
    from tbft.metering.sensor import board_name

    places = Places.from_environment()
    sensors, profiles = find_sensors(places), shipped_profiles()
    board, best = board_name(places), best_sensor(sensors)
    conclusion = _conclusion(best, profiles, board)
    if arguments.json:
        described = ("name", "scope", "kind", "source", "available", "note", "reason", "remedy")
        shown = {n: {k: v for k, v in asdict(p).items() if k != "fit"} for n, p in profiles.items()}
        print_json(
            {
                "board": board,
                "sensors": [{k: getattr(s, k) for k in described} for s in sensors],
                "taken": best.name if best.available else None,
                "profiles": shown,
                "conclusion": conclusion,
            }
        )
        return
    rows = [("sensor", "covers", "")]
    for sensor in sensors:
        first, second = _cells(sensor)
        rows += [(sensor.name, sensor.scope, first), ("", "", second)]
    print(f"board: {board}\n\n{table(rows)}\n\n{conclusion}")


def _cells(sensor: Sensor) -> tuple[str, str]:
    if not sensor.available:
        return f"no: {sensor.reason}", sensor.remedy or ""
    return f"{sensor.kind}: {sensor.source}", sensor.note


def _conclusion(best: Sensor, profiles: dict[str, Profile], board: str) -> str:
    names = ", ".join(profiles)
    if best.available:
        return f"Energy is measured here by {best.name} (scope: {best.scope}); choose another with --sensor."
    fitting = [name for name in profiles if name.replace("-", " ") in board.lower()]
    suggested = f" There is one for this board: --profile {fitting[0]}." if fitting else ""
    return (
        "Energy cannot be measured here; elapsed time, processor time and peak memory can. Energy can be "
        "estimated, and is labeled as an estimate, from the profile of a board: --profile "
        f"{names} or a file.{suggested} With an external meter, `tbft energy calibrate --typed` makes a "
        "profile of this machine."
    )


def run_measure(arguments: argparse.Namespace) -> int:
    import subprocess
    import time
    from dataclasses import asdict

    from tbft.metering import measure_idle

    argv = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not argv:
        raise TbftError("give the command to meter after --, as in: tbft energy measure -- python train.py")
    usage = _ChildUsage()
    meter = load_meter(arguments, cpu_clock=usage.cpu_seconds)
    if arguments.idle is not None:
        meter.idle_watts = measure_idle(meter.sensor, arguments.idle)
    started = time.time()
    with meter:
        try:
            child = subprocess.Popen(argv, stdout=sys.stderr if arguments.json else None)
        except OSError as error:
            raise TbftError(f"cannot run {argv[0]!r}: {error.strerror}") from error
        status = usage.wait(child)
    cost = usage.added_to(meter.measurement)
    if arguments.json:
        print_json({"command": argv, "exit_status": status, "started": started, **asdict(cost)})
    else:
        print(_measured_text(cost, started, status), file=sys.stderr)
    return status


class _ChildUsage:
    """Waits for a child process and records its resource usage, including that of its own children."""

    def __init__(self) -> None:
        self.usage: Any = None

    def cpu_seconds(self) -> float:
        return 0.0 if self.usage is None else self.usage.ru_utime + self.usage.ru_stime

    def wait(self, child: Any) -> int:
        import os
        import signal

        from tbft.cli import signals

        while True:
            try:
                _, raw, self.usage = os.wait4(child.pid, 0)
            except KeyboardInterrupt:  # wait for the child's end; Ctrl-C in a terminal has reached it, too
                if signals.received != signal.SIGINT:
                    child.send_signal(signals.received)
                continue
            child.returncode = os.waitstatus_to_exitcode(raw)
            return child.returncode if child.returncode >= 0 else 128 - child.returncode

    def added_to(self, cost: Measurement) -> Measurement:
        from dataclasses import replace

        unit = 1 if sys.platform == "darwin" else 1024
        peak = None if self.usage is None else self.usage.ru_maxrss * unit
        return replace(cost, peak_rss_bytes=peak, peak_rss_scope="process")


def _measured_text(cost: Measurement, started: float, status: int) -> str:
    peak = "unknown" if cost.peak_rss_bytes is None else f"{cost.peak_rss_bytes / 2**20:,.0f} MiB"
    rows = [
        ("time", f"{cost.wall_seconds:.2f} s, processor time {cost.cpu_seconds:.2f} s"),
        ("memory", f"{peak} at the peak"),
        ("energy", cost.energy_in_words()),
        ("start", f"{started:.3f} seconds since 1970; exit status {status}"),
    ]
    if cost.power_samples:
        gap = cost.longest_gap_seconds or 0.0
        rows.append(("readings", f"{cost.power_samples:,}, at most {gap:.2f} s apart"))
    return table(rows)


def run_log(arguments: argparse.Namespace) -> None:
    from tbft.metering.meterlog import read_log

    log = read_log(Path(arguments.log))
    log = log.shifted(arguments.offset) if arguments.marker is None else log.aligned(arguments.marker)
    energy = log.between(arguments.start, arguments.start + arguments.seconds)
    if arguments.json:
        print_json({"energy_kind": "measured", **energy._asdict()})
        return
    mean = energy.joules / arguments.seconds
    print(f"{energy.joules:.3f} J, {mean:.3f} W on average; {energy.samples} rows, "
          f"at most {energy.longest_gap_seconds:.2f} s apart")  # fmt: skip
