"""The command line, ``tbft``: a module for each subcommand, each a few lines over public functions.

Exit statuses: 0 done, 1 a bug of ours, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tbft import __version__
from tbft.cli import (
    adapt,
    cache,
    cost,
    datasets,
    demonstrate,
    diagnosing,
    energy,
    inspect,
    patches,
    training,
)
from tbft.errors import TbftError
from tbft.files import release_claims
from tbft.text import visible

EPILOG = """\
examples:
  tbft demo
  tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --level input --out user.safetensors
  tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors

`tbft COMMAND --help` shows the options of a command, with examples.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="tbft",
        description="Adapt a deployed network to one user, device or place by tuning one block of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"tbft {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    modules = (adapt, diagnosing, cost, inspect, patches, datasets, cache, training, energy, demonstrate)
    for module in modules:
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Before torch is loaded: its threads then sleep while they wait, where they would burn energy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parser().parse_args(argv)
    try:
        status: int | None = arguments.run(arguments)  # most return nothing
    except KeyboardInterrupt:
        print("\ntbft: interrupted; no half-written file is left", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        sys.stderr.close()
        return 0
    except TbftError as error:
        print(f"tbft: {visible(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"tbft: cannot use{visible(where)}: {error.strerror or error}", file=sys.stderr)
        return 2
    finally:
        release_claims()
    return status or 0
