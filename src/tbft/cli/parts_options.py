"""Options for the parts that samples are assigned to: add them, and split by them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from tbft.cli.data_options import DataOptions
from tbft.errors import DataError

if TYPE_CHECKING:
    from tbft.data import InputSpec, Parts, Samples
    from tbft.data.amounts import SplitBy


def add_parts(parser: argparse.ArgumentParser) -> None:
    """``--train``, ``--val`` and ``--test``, and how samples are assigned to them."""
    parts = parser.add_argument_group(
        "parts", "amounts are a share (0.2 or 20%), a count (50) or a count per class (10/class)"
    )
    parts.add_argument(
        "--train",
        metavar="N",
        default="rest",
        help="samples to train on, including those held out of them by default: an amount, first:20%% for "
        "the earliest ones, or rest (default: all that are not held out)",
    )
    parts.add_argument(
        "--val",
        metavar="N",
        help="samples held out to decide whether to keep the tuned model; recipes that validate choose the "
        "epoch with them instead (default: a fifth of train, at most 500; if that is fewer than 40, all "
        "are tuned on and acceptance is cross-fitted)",
    )
    parts.add_argument(
        "--test",
        metavar="N",
        help="samples used only for evaluation, or rest (default: none; the rest with --train first:N)",
    )
    parts.add_argument(
        "--test-data", metavar="SET", help="another set to evaluate on, read with the same options"
    )
    add_grouping(parts)


def add_grouping(parser: argparse._ActionsContainer) -> None:
    """How samples are assigned to parts."""
    parser.add_argument(
        "--group-by",
        metavar="KEY",
        help="attribute whose values are never split between parts, or none (default: found by its name)",
    )
    parser.add_argument(
        "--order",
        metavar="KEY[,KEY]",
        help="attributes with the time of each sample: train gets the earliest, test the latest; file for "
        "the order of the set, none if time plays no role and labels are a random draw (default: found by "
        "name if needed)",
    )


def load_parts(arguments: argparse.Namespace, samples: Samples, inputs: InputSpec, by: SplitBy) -> Parts:
    """The samples in the parts named by the options."""
    from tbft.data.amounts import Amount, Amounts, parse_amount
    from tbft.data.parts import with_own
    from tbft.data.splitting import split_by

    train = parse_amount(arguments.train)
    val = None if arguments.val is None else parse_amount(arguments.val)
    if arguments.test is not None and arguments.test_data is not None:
        raise DataError("--test takes samples from --data, --test-data names another set; give one of them")
    rest_is_test = train.first and arguments.test is None and arguments.test_data is None
    test = Amount() if rest_is_test else parse_amount(arguments.test or 0)
    parts = split_by(samples, Amounts(train, val, test), by)
    if arguments.test_data is None:
        return with_own(parts, {})
    options = replace(DataOptions.of(arguments), source=arguments.test_data)
    return with_own(parts, {"test": options.read(inputs)})
