"""Options and output that several commands share. torch is imported only once a command runs."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbft.files import Kind, atomic_path, move_aside
from tbft.json_text import encode

if TYPE_CHECKING:
    from tbft.metering import Meter, Profile
    from tbft.new_classes import NewClasses
    from tbft.personalization import Personalization
    from tbft.tuning.loop import OnStep

Subparsers = Any  # argparse keeps the type of add_subparsers() to itself


def command(commands: Subparsers, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """A subcommand with examples below its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + "".join(f"  {line}\n" for line in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def add_profile(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="profile of the board, to estimate energy if no sensor measures it: a name from `tbft energy "
        "probe` or a .json file (default: $TBFT_PROFILE)",
    )


def load_profile(arguments: argparse.Namespace) -> Profile | None:
    """The profile named by the options or the environment."""
    from tbft.metering.profile import find_profile

    return find_profile(arguments.profile)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, and everything else on stderr"
    )


def add_meter(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--sensor",
        metavar="NAME",
        help="energy sensor: a name from `tbft energy probe`, a meter's log (.csv), or none (default: the "
        "best available)",
    )
    add_profile(parser)


def load_meter(arguments: argparse.Namespace, **options: Any) -> Meter:
    """The meter named by the options, not yet running."""
    from tbft.metering import Meter, find_profile, find_sensor

    return Meter(find_sensor(arguments.sensor), find_profile(arguments.profile), **options)


def number(text: str) -> float:
    """An argparse type: a number, neither NaN nor infinity."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def integer(text: str) -> int:
    """An argparse type: an integer of at most 9 digits, which is more than any option of these needs."""
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at most 9 digits")
    return int(text)


#: The notes that this command has printed so far.
shown: list[str] = []


def show_notes(notes: Sequence[str]) -> None:
    """Print what was assumed or left out on stderr."""
    for note in not_shown(notes):
        print(f"note: {note}", file=sys.stderr)
    shown.extend(notes)


def not_shown(notes: Sequence[str]) -> list[str]:
    """The notes that were not printed yet."""
    return [note for note in dict.fromkeys(notes) if note not in shown]


def print_json(value: Any) -> None:
    """Print JSON, an object with all notes; numbers that JSON cannot represent (NaN) become null."""
    if isinstance(value, dict) and (notes := dict.fromkeys((*shown, *value.get("notes", ())))):
        value = {**value, "notes": list(notes)}
    print(encode(value, indent=2))


def write_json(path: Path, value: Any, kind: Kind) -> None:
    """Write one JSON object to a file, atomically."""
    with atomic_path(path, kind=kind) as temporary:
        temporary.write_text(encode(value, indent=1) + "\n")


def save_patch(result: Personalization | NewClasses, out: str | None) -> str | None:
    """Save the patch of a result and return its path; without a patch, rename that of an earlier run."""
    if out and result.status == "patched":
        result.patch.save(out)
        return out
    set_aside(out)
    return None


def set_aside(path: str | None) -> None:
    """Rename a file of an earlier run that this one did not replace, and say so on stderr."""
    if path and (aside := move_aside(path)):
        print(f"tbft: {path} was from another run: it was renamed to {aside}", file=sys.stderr)


@contextmanager
def progress_bar(description: str, meter: Meter | None = None) -> Iterator[OnStep]:
    """A progress bar on stderr, updated by a training loop's `on_step`; silent if stderr is not a terminal.

    With a running `meter` it also shows power or processor load, once a second.
    """
    from tqdm import tqdm

    shown = time.monotonic()
    with tqdm(desc=description, unit="step", leave=False, disable=None) as bar:

        def on_step(done: int, total: int) -> None:
            nonlocal shown
            bar.total = total
            if meter is not None and time.monotonic() > shown + 1:
                shown = time.monotonic()
                bar.set_postfix_str(meter.live(), refresh=False)
            bar.update(done - bar.n)

        yield on_step
