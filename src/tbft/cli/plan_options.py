"""Options for what to tune, how, and within which budget: add them, and read what they say."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import number
from tbft.cli.diagnosing import add_card
from tbft.cli.model_options import add_recipe
from tbft.errors import PlanError

if TYPE_CHECKING:
    from tbft.plan import Budget
    from tbft.tuning.prefix_cache import CachePolicy


def add_plan(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--level",
        default="auto",
        help="level of the drift: auto (default: diagnosed from the training samples), none, input, feature "
        "or output",
    )
    what.add_argument(
        "--arm",
        help="what to tune: none, adabn, a block, a submodule inside a block, head (the last layer, whatever "
        "its name), two of these joined by +, full, or a head computed in closed form: ridge or prototypes",
    )
    what.add_argument(
        "--new-classes",
        action="store_true",
        help="the samples have classes that the model does not know: add rows for them to its head",
    )
    add_card(parser)
    parser.add_argument(
        "--cautious",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="where labels cannot tell whether it helped, keep the base unless a loss of more than a point "
        "is improbable (default); with --no-cautious a positive expected gain is enough",
    )
    parser.add_argument("--explain", action="store_true", help="also print the diagnosis and the choice")


def add_budget(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_argument_group("budget", "limits that neither the prediction nor the run exceeds")
    budget.add_argument("--budget-seconds", type=number, metavar="S", help="processor time, on one thread")
    budget.add_argument(
        "--budget-memory", type=number, metavar="MIB", help="memory of tensors and cache during tuning"
    )
    budget.add_argument(
        "--choose-seconds",
        type=number,
        metavar="S",
        help="processor time for trying options on the labels (default: a third of what the likeliest one is "
        "predicted to cost, at least 2; 0: none is tried)",
    )
    budget.add_argument(
        "--worth",
        type=number,
        metavar="POINTS",
        help="points of accuracy that a second of processor time is worth (default: the cheapest option "
        "within half a point of the best is chosen)",
    )
    budget.add_argument(
        "--budget-joules", type=number, metavar="J", help="energy, estimated from the board's profile"
    )


def add_tuning(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("recipe")
    add_recipe(how, "fast", "how to train: fast (default) or paper")
    how.add_argument(
        "--source-share",
        type=_share,
        metavar="SHARE",
        help="weight of the source in AdaBN statistics: 0 to 1 (1 keeps the source's), or auto, chosen with "
        "the training labels by forward passes (default: depends on the level and the number of samples)",
    )
    how.add_argument(
        "--cache-memory", type=number, metavar="MIB", help="for outputs of the frozen prefix (default 1024)"
    )
    how.add_argument("--cache-folder", metavar="DIR", help="folder for outputs that do not fit into memory")


def load_budget(arguments: argparse.Namespace) -> Budget:
    from tbft.plan import Budget

    mebibytes = arguments.budget_memory
    return Budget(
        peak_bytes=None if mebibytes is None else int(mebibytes * 2**20),
        cpu_seconds=arguments.budget_seconds,
        joules=arguments.budget_joules,
        choosing_seconds=arguments.choose_seconds,
        worth=arguments.worth,
    )


def _share(text: str) -> float | str:
    try:
        return text if text in ("auto", "keep") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor auto") from None


def load_cache(arguments: argparse.Namespace) -> CachePolicy:
    from pathlib import Path

    from tbft.tuning.prefix_cache import CachePolicy

    mebibytes = 1024.0 if arguments.cache_memory is None else arguments.cache_memory
    if not 0 <= mebibytes < float("inf"):
        raise PlanError(f"--cache-memory has to be 0 or more MiB, not {mebibytes}")
    folder = Path(arguments.cache_folder) if arguments.cache_folder else None
    return CachePolicy(int(mebibytes * 2**20), folder)
