"""Options for the data that a command reads: add them, read them, and print what was read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tbft.cli.common import integer, shown
from tbft.errors import DataError
from tbft.text import visible

if TYPE_CHECKING:
    from tbft.data import InputSpec, Parts, Samples

SET = (
    "folder, archive or .npz of samples, a table of files and labels, CIFAR or CIFAR-10-C files, or "
    "package.module:factory (see docs/data.md)"
)


def add_data(parser: argparse.ArgumentParser) -> None:
    """``--data`` and the options for reading it."""
    parser.add_argument("--data", metavar="SET", required=True, help=SET)
    add_selection(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Options for reading a set, without the set itself."""
    what = parser.add_argument_group("data", "which samples, and how they are read (see docs/data.md)")
    what.add_argument(
        "--where",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="keep samples with this attribute, e.g. domain=target, or without it: domain!=target; several "
        "values of one key mean either",
    )
    what.add_argument(
        "--classes",
        metavar="MAP",
        help="read leaf classes as superclasses: living17:rand (see `tbft data list`) or a .json file",
    )
    what.add_argument("--layout", metavar="LEVELS", help="meaning of the folders, such as domain/class")
    what.add_argument("--keys", metavar="inputs=X,labels=Y", help="names of arrays, items or columns")
    what.add_argument(
        "--labels-from", type=int, choices=(0, 1), metavar="N", help="number of the first class: 0 or 1"
    )
    what.add_argument(
        "--mixed", action="store_true", help="fit pictures of mixed sizes to the smallest, if no --resolution"
    )
    what.add_argument("--skip-damaged", action="store_true", help="leave out files that cannot be read")
    what.add_argument(
        "--data-memory",
        type=whole_number,
        metavar="MIB",
        help="memory for decoded pictures; larger sets are decoded when needed (default 1024)",
    )
    what.add_argument(
        "--drift",
        metavar="DRIFT",
        help="apply this drift, e.g. gaussian_noise:5 or fog:3+labels:reverse (see `tbft data list`)",
    )
    what.add_argument("--seed", type=whole_number, default=0, help="random seed (default 0)")
    _add_preprocessing(parser)


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group(
        "preprocessing", "what the model was trained with, unless it is part of the model itself"
    )
    how.add_argument("--mean", metavar="M", help="mean: imagenet, cifar10, ..., or numbers: 0.5,0.4,0.4")
    how.add_argument("--std", metavar="S", help="standard deviation: as for --mean")
    how.add_argument("--resolution", type=integer, metavar="PX", help="side of the square pictures")
    how.add_argument("--resize", type=integer, metavar="PX", help="shorter side before the crop")
    how.add_argument(
        "--crop", choices=("center", "none"), help="center (default), or none to scale both sides"
    )
    how.add_argument("--channel-order", choices=("RGB", "BGR"), help="channels of the model (default RGB)")
    how.add_argument(
        "--range", metavar="RANGE", help="range of the values: auto (default), 0-1, 0-255 or normalized"
    )


@dataclass(frozen=True)
class DataOptions:
    """The data options of a command.

    Attributes:
        source: the set.
        spec: given fields of ``InputSpec``.
        where: conditions as text.
        classes: a class map, or None.
        drift: a drift to apply, or None.
        seed: random seed for the drift.
    """

    source: str
    spec: Mapping[str, Any]
    where: tuple[str, ...] = ()
    classes: str | None = None
    drift: str | None = None
    seed: int = 0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> DataOptions:
        """The options that :func:`add_selection` added."""
        names = (
            "layout",
            "labels_from",
            "mean",
            "std",
            "resolution",
            "resize",
            "crop",
            "channel_order",
            "range",
        )
        spec = {name: getattr(arguments, name) for name in names}
        spec |= {"mixed": arguments.mixed or None, "skip_damaged": arguments.skip_damaged or None}
        spec |= {"memory_mib": arguments.data_memory, "keys": _keys(arguments.keys)}
        given = {name: value for name, value in spec.items() if value is not None}
        if "mean" in given or "std" in given:  # both are the user's, or none is
            given = {"mean": None, "std": None, **given}
        return cls(
            arguments.data, given, tuple(arguments.where), arguments.classes, arguments.drift, arguments.seed
        )

    def read(self, inputs: InputSpec | None = None) -> Samples:
        """The samples, fitted to the model's inputs, with the drift."""
        from tbft.scenarios import apply_drift, find_drifts

        if not self.drift:
            return self.read_clean(inputs)
        find_drifts(self.drift)  # a misspelled name is reported before a large set is read
        return apply_drift(self.read_clean(inputs), self.drift, self.seed)

    def read_clean(self, inputs: InputSpec | None = None) -> Samples:
        """The samples, fitted to the model's inputs, without the drift."""
        from tbft.data import InputSpec, read
        from tbft.scenarios import find_class_map

        spec = replace(inputs or InputSpec(), **self.spec)
        class_map = find_class_map(self.classes) if self.classes else None
        return read(self.source, spec, self.where, class_map)


def _keys(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise DataError(f"--keys {text!r}: write inputs=X,labels=Y with the names of the arrays")
    return {name.strip(): value.strip() for name, _, value in pairs}


def whole_number(text: str) -> int:
    """An argparse type: an integer from 0 that fits into 63 bits."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**63 - 1")
    return int(text)


def load_samples(arguments: argparse.Namespace, inputs: InputSpec | None = None) -> Samples:
    """The samples named by the options, fitted to the model's inputs, with the drift."""
    return DataOptions.of(arguments).read(inputs)


def add_some(parser: argparse.ArgumentParser) -> None:
    """``--samples``, for :func:`load_some`."""
    parser.add_argument(
        "--samples", metavar="N", help="how many samples to use: a share, 500, or 10/class (default: all)"
    )


def load_some(arguments: argparse.Namespace, inputs: InputSpec | None = None) -> Samples:
    """The samples named by the options, or as many of them as ``--samples`` says."""
    from tbft.data import split_samples

    samples = load_samples(arguments, inputs)
    if arguments.samples:
        samples = split_samples(samples, arguments.samples, 0, 0, arguments.seed, "none").train
    return samples


def load_clean(arguments: argparse.Namespace, inputs: InputSpec | None = None) -> Samples:
    """The samples named by the options, fitted to the model's inputs, without the drift."""
    return DataOptions.of(arguments).read_clean(inputs)


def show_data(samples: Samples, parts: Parts | None = None) -> dict[str, Any]:
    """Print a summary of what was read on stderr.

    Returns:
        ``data`` (the summary) and ``notes``, as plain values for ``--json``.
    """
    from tbft.data.summary import describe

    summary = describe(samples, parts)
    print(visible(str(summary)), file=sys.stderr)
    shown.extend(summary.notes)
    return {"data": summary.to_json(), "notes": list(summary.notes)}
