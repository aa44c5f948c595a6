"""The Raspberry Pi 5's power management chip, through ``vcgencmd pmic_read_adc``.

It reports volts and amperes of twelve rails behind its regulators. Their sum is not the board's power: what
is fed from 5 V (USB, HATs, NVMe, the fan) and the regulators' own loss are missing. A linear correction
estimates that:

    board watts = 1.1451 * (sum over rails) + 0.5879

Fitted by J. Fikar beside a USB power meter, with nothing plugged in
(https://github.com/jfikar/RPi5-power, commit 5fc9e93). No error was published, so none is given.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from tbft.errors import SensorError
from tbft.metering.sensor import Places, Read, Sensor

SLOPE, OFFSET_WATTS = 1.1451, 0.5879

_LINE = re.compile(r"\s*(\S+)_([AV]) (?:current|volt)\(\d+\)=([-+0-9.eE]+)[AV]\s*")
_PERIOD_SECONDS = 0.5  # a reading starts a process


def find(places: Places) -> list[Sensor]:
    """Two sensors: the rails, and the board as estimated from them."""
    command = shutil.which(places.vcgencmd)
    if command is None:
        reason, remedy = f"there is no command {places.vcgencmd!r}", "only a Raspberry Pi 5 has this chip"
        return _both("", reason, remedy)
    try:
        rail_watts(read_adc(command))
    except SensorError as error:
        return _both(command, str(error), "needs a Raspberry Pi 5, and the user in the group video")
    return _both(command)


def read_adc(command: str) -> str:
    """What the command prints.

    Raises:
        SensorError: it cannot be started, fails, or takes more than 5 s.
    """
    try:
        done = subprocess.run(
            [command, "pmic_read_adc"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SensorError(f"{command} cannot be run: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:80]
        raise SensorError(f"{command} pmic_read_adc fails with status {done.returncode}: {said!r}")
    return done.stdout


def rail_watts(text: str) -> dict[str, float]:
    """Watts of every rail that has both a current and a voltage.

    Raises:
        SensorError: the text lists no such rail.

    >>> text = "VDD_CORE_A current(7)=2.0A\\nVDD_CORE_V volt(15)=0.9V\\nEXT5V_V volt(24)=5.1V"
    >>> rail_watts(text)
    {'VDD_CORE': 1.8}
    """
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for rail, unit, value in (m.groups() for m in map(_LINE.fullmatch, text.splitlines()) if m):
        found[unit][rail] = float(value)
    watts = {rail: amperes * found["V"][rail] for rail, amperes in found["A"].items() if rail in found["V"]}
    if not watts:
        raise SensorError(f"pmic_read_adc lists no rail with a current and a voltage: {text.strip()[:80]!r}")
    return watts


def board_watts(rails: float) -> float:
    """The board's power as estimated from the sum of its rails, in watts; see the head of this module."""
    return SLOPE * rails + OFFSET_WATTS


def _both(command: str, reason: str | None = None, remedy: str | None = None) -> list[Sensor]:
    def open_rails() -> Read:
        return lambda: sum(rail_watts(read_adc(command)).values())

    def open_board() -> Read:
        return lambda: board_watts(sum(rail_watts(read_adc(command)).values()))

    rails = Sensor(
        name="pmic",
        scope="rails",
        source="pmic, sum of its rails",
        open=open_rails,
        period_seconds=_PERIOD_SECONDS,
        note="not what is fed from 5 V, nor the regulators' loss",
        reason=reason,
        remedy=remedy,
    )
    board = Sensor(
        name="pmic-board",
        scope="board",
        source=f"pmic, {SLOPE} x rails + {OFFSET_WATTS} W (jfikar/RPi5-power)",
        open=open_board,
        period_seconds=_PERIOD_SECONDS,
        kind="estimated",
        note="an estimate, for a board with nothing plugged in",
        reason=reason,
        remedy=remedy,
    )
    return [rails, board]
