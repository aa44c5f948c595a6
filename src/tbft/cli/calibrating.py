"""``tbft energy calibrate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, command, integer, number
from tbft.errors import SensorError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.metering.calibration import Fit, State, WattsOf

EXAMPLES = """
tbft energy calibrate --out my-board.json
tbft energy calibrate --typed --meter "USB meter UM25C" --out my-board.json
"""


def add(actions: Subparsers) -> None:
    summary = "fit a profile of this board, with a sensor or a meter that you read"
    parser = command(actions, "calibrate", summary, EXAMPLES)
    parser.add_argument("--out", metavar="FILE", required=True, help="the profile to write (.json)")
    parser.add_argument("--sensor", metavar="NAME", help="a name of `tbft energy probe` (default: the best)")
    parser.add_argument("--typed", action="store_true", help="ask for the reading of an external meter")
    parser.add_argument("--meter", help="name of the external meter, for the record; with --typed")
    parser.add_argument("--board", help="name of the board, for the record (default: the firmware's)")
    parser.add_argument(
        "--loads", default="plain,memory,convolution", metavar="A,B", help="kinds of load (default: all)"
    )
    parser.add_argument(
        "--cores", type=integer, metavar="N", help="maximum number of busy cores (default: all)"
    )
    parser.add_argument(
        "--seconds", type=number, default=20.0, metavar="S", help="time for each state (default: 20)"
    )
    parser.set_defaults(run=run_calibrate)


def run_calibrate(arguments: argparse.Namespace) -> None:
    from tbft.files import PROFILE, claim
    from tbft.metering import Places, find_sensor
    from tbft.metering.calibration import fit, make_profile, measured_states, sensor_watts
    from tbft.metering.sensor import board_name

    out = claim(arguments.out, PROFILE)
    places = Places.from_environment()
    if arguments.typed:
        source, scope = arguments.meter or "external meter, read manually", "board"
        watts_of: WattsOf = _typed_watts
    else:
        sensor = find_sensor(arguments.sensor, places)
        if not sensor.available:
            raise SensorError(
                "no sensor can be read here: give --typed to type in the readings of an external meter"
            )
        source, scope = sensor.source, sensor.scope
        watts_of = sensor_watts(sensor, arguments.seconds)
    states = []
    loads = [name.strip() for name in arguments.loads.split(",")]
    for state in measured_states(watts_of, loads, arguments.cores):
        states.append(state)
        watts = f"{state.watts:.3f} ± {state.spread_watts:.3f} W"
        print(f"{state.load}, {state.cores} busy: {watts}", file=sys.stderr)
    fitted = fit(states)
    board = arguments.board or board_name(places)
    make_profile(fitted, states, out.stem, board, source, scope).save(out)
    print(_fit_text(fitted, states, out))


def _typed_watts(load: str, cores: int) -> tuple[float, float]:
    """Ask for readings during a state; several readings give a spread."""
    from statistics import fmean, stdev

    what = "idle" if load == "idle" else f"{load} load on {cores} core{'s' if cores > 1 else ''}"
    while True:
        print(f"{what}: how many watts does the meter show? (separate several readings by spaces) ", end="",
              file=sys.stderr, flush=True)  # fmt: skip
        line = sys.stdin.readline()
        if not line:
            raise SensorError("the input ended before all readings were typed")
        try:
            readings = [float(word) for word in line.replace(",", ".").split()]
            if readings and min(readings) > 0:
                return fmean(readings), stdev(readings) if len(readings) > 1 else 0.0
        except ValueError:
            pass
        print("enter a number such as 3.42", file=sys.stderr)


def _fit_text(fitted: Fit, states: list[State], out: Path) -> str:
    rows = [("load", "cores busy", "watts", "fitted minus measured")]
    rows += [
        (s.load, f"{s.busy_cores:.2f}", f"{s.watts:.3f}", f"{-r:+.3f}")
        for s, r in zip(states, fitted.residual_watts, strict=True)
    ]
    summary = f"{out}: {fitted.idle_watts:.2f} W idle, {fitted.watts_per_core:.2f} W per busy core"
    if fitted.joules_per_gflop is not None:
        summary += f", {fitted.joules_per_gflop:.3f} J/GFLOP above idle"
    error = f"error of an estimate {100 * fitted.relative_error:.1f} % (one standard deviation)"
    return f"{table(rows, right='123')}\n\n{summary}; {error}"
