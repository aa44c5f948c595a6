"""Options and output that several commands share. torch is imported only once a command runs."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbft.errors import TbftError
from tbft.files import atomic_path, move_aside
from tbft.schema import encode

if TYPE_CHECKING:
    from torch import nn

    from tbft.base import Base
    from tbft.data import InputSpec, Samples
    from tbft.metering import Meter, Profile
    from tbft.models import Preset
    from tbft.plan import Recipe
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


def add_model(parser: argparse.ArgumentParser, weights: bool = True) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a preset (see `tbft models`), package.module:factory, or timm:NAME"
    )
    parser.add_argument("--cuts", metavar="A,B", help="submodules at which new blocks start")
    parser.add_argument("--names", metavar="A,B,C", help="names of the blocks, one more than cuts")
    parser.add_argument(
        "--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        help="threads of torch on the CPU (default: one for each core; 1 takes the least processor time)",
    )
    if weights:
        parser.add_argument("--weights", metavar="FILE", help="checkpoint: .safetensors, .pt, .pth, .ckpt")
        parser.add_argument(
            "--weights-key",
            metavar="KEY",
            help="where the weights are in it, e.g. state_dict_ema (default: found by the model's key names)",
        )


def add_recipe(parser: argparse._ActionsContainer, default: str, summary: str) -> None:
    parser.add_argument("--recipe", default=default, help=summary)
    parser.add_argument("--epochs", type=integer, metavar="N", help="instead of the recipe's")
    parser.add_argument("--batch-size", type=integer, metavar="N", help="instead of the recipe's")
    parser.add_argument("--learning-rate", type=number, metavar="RATE", help="instead of the recipe's")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="precision during tuning (default: the recipe's; auto is bfloat16 if it is faster on the device "
        "and works with the model)",
    )


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


def thread_count(text: str) -> int:
    """An argparse type: a number of threads, from 1 to the number of cores."""
    cores = os.cpu_count() or 1
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= cores):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of threads from 1 to {cores}, the cores here"
        )
    return int(text)


def _set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)


def load_model(arguments: argparse.Namespace) -> tuple[Preset, nn.Module]:
    """The preset and its model, with weights if they are given."""
    from tbft.blocks.placement import find_device
    from tbft.models import find_model, load_weights

    _set_threads(arguments)
    preset = find_model(arguments.model, _listed(arguments.cuts), _listed(arguments.names))
    model = preset.build()
    if getattr(arguments, "weights", None):
        show_notes(load_weights(model, arguments.weights, arguments.weights_key))
    return preset, model.to(find_device(arguments.device))


def load_base(
    arguments: argparse.Namespace, read: Callable[[argparse.Namespace, InputSpec], Samples]
) -> Base:
    """The base model named by the options, with weights and card.

    Args:
        read: reads the samples named by the options, in case the model can be split only with an example.
    """
    from tbft.blocks.placement import find_device
    from tbft.loading import Source, load_named

    _set_threads(arguments)
    source = Source(
        arguments.weights,
        arguments.weights_key,
        getattr(arguments, "card", None),
        _listed(arguments.cuts),
        _listed(arguments.names),
    )
    base = load_named(arguments.model, source).split(partial(read, arguments))
    show_notes(base.notes)
    base.model.to(find_device(arguments.device))
    return base


def show_notes(notes: Sequence[str]) -> None:
    """Print what was assumed or left out on stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def load_recipe(arguments: argparse.Namespace, find: Callable[[str], Recipe]) -> Recipe:
    """The recipe named by the options, with their numbers instead of its own.

    Args:
        find: name -> recipe, in the model's own variant if there is one.
    """
    options = ("epochs", "batch_size", "learning_rate")
    numbers = {option: getattr(arguments, option) for option in options}
    for option, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise TbftError(f"--{option.replace('_', '-')} has to be a positive number, not {value}")
    recipe = find(arguments.recipe).given(**numbers)
    return recipe if arguments.precision is None else recipe.replace(precision=arguments.precision)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def print_json(value: Any) -> None:
    """Print one JSON object; numbers that JSON cannot represent (NaN) become null."""
    print(encode(value, indent=2))


def write_json(path: Path, value: Any) -> None:
    """Write one JSON object to a file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(encode(value, indent=1) + "\n")


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
