"""The command line, ``tbft``: a module for each subcommand, a few lines over public functions.

Exit status: 0 success, 1 a bug in tbft, 2 bad input or too few resources, 130 Ctrl-C, 143 SIGTERM; for
those of ``personalize`` see ``docs/personalize-json.md``. ``data check`` ends with 1 if it finds problems
that other commands do not refuse. This module imports little, so that signals are
handled early.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

EPILOG = """\
examples:
  tbft demo
  tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --level input --out user.safetensors
  tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors

`tbft COMMAND --help` shows the options of a command, with examples.
"""

#: Module -> package, of the dependencies that no extra names; `pip install --no-deps` leaves them out.
REQUIRED = {"torch": "torch", "numpy": "numpy", "safetensors": "safetensors", "tqdm": "tqdm", "PIL": "pillow"}

MODULES = (
    "adapt",
    "evaluating",
    "diagnosing",
    "forecasting",
    "cost",
    "inspect",
    "patches",
    "keys",
    "cache",
    "datasets",
    "training",
    "energy",
    "demonstrate",
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    import argparse
    from importlib import import_module

    from tbft import __version__

    top = argparse.ArgumentParser(
        prog="tbft",
        description="Adapt a deployed network to one user, device or place by tuning one block of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"tbft {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in MODULES:
        import_module(f"tbft.cli.{name}").add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        argv: arguments; None: those of the process, whose signals are then handled as well.
    """
    try:
        from tbft.cli import signals

        if argv is None:
            signals.install()
            _open_closed_streams()
        try:
            status = _run(argv)
        finally:
            signals.clean_up()
        if signals.received:  # what was learned has been kept
            signals.say()
            status = signals.status()
    except KeyboardInterrupt:
        from tbft.cli import signals

        signals.say()
        status = signals.status()
    if argv is None:
        signals.uninstall()
    return status


def _open_closed_streams() -> None:
    """Open the standard streams that are closed, to nowhere.

    Otherwise the next file that is opened would get their number, and messages would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _run(argv: Sequence[str] | None) -> int:
    """Run a command and return its exit status; errors that users can fix become one message."""
    # Before torch is loaded, so that its threads sleep while they wait, which saves energy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import warnings
    from contextlib import redirect_stderr, redirect_stdout

    from tbft.cli import common, signals
    from tbft.cli.output import VisibleStream
    from tbft.errors import TbftError, TbftWarning
    from tbft.text import visible

    out, error_out = VisibleStream(sys.stdout), VisibleStream(sys.stderr, progress=True)
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(error_out):
            warnings.simplefilter("default", TbftWarning)
            warnings.showwarning = _show_warning
            common.shown.clear()
            signals.left_behind = signals.NOTHING
            arguments = _parsed(sys.argv[1:] if argv is None else argv)
            if argv is None:
                signals.handle_bus_errors()
            status: int | None = arguments.run(arguments)  # most commands return None
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13  # as of a process that SIGPIPE ends
    except TbftError as error:
        return _refused(visible(str(error)))
    except ModuleNotFoundError as error:
        if error.name not in REQUIRED:
            raise
        return _refused(f"{error.name} is not installed: pip install {REQUIRED[error.name]}")
    except OSError as error:
        where = f" {visible(os.fsdecode(error.filename))}" if error.filename else ""
        return _refused(f"cannot use{where}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        return _refused("not enough memory: give --budget-memory, fewer samples, or smaller batches")
    return status or 0


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; argparse itself takes ``--option=--`` as no value at all.

    An empty value is refused: an unset variable in ``--weights "$BASE"`` must not mean no weights.
    """
    top = parser()
    for option, text in zip(("", *argv), argv, strict=False):
        if text == "--":  # a command to run follows
            break
        name, equals, value = text.partition("=")
        if name.startswith("-") and value == "--":
            top.error(f"argument {name}: expected one argument")
        empty = name if name.startswith("--") and equals and not value else option if not text else ""
        if empty.startswith("--"):
            top.error(f"argument {empty}: its value is empty; give one, or leave the option out")
    return top.parse_args(argv)


def _refused(message: str) -> int:
    with suppress(OSError):  # stderr may be full or closed
        print("tbft: " + message.replace("\n", "\n  "), file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    from warnings import formatwarning

    from tbft.errors import TbftWarning
    from tbft.text import visible

    if issubclass(category, TbftWarning):
        print(f"tbft: {visible(str(message), lines=False)}", file=sys.stderr)
    else:
        sys.stderr.write(formatwarning(message, category, filename, lineno))
