"""``tbft data corrupt``."""

from __future__ import annotations

import argparse

from tbft.cli.common import Subparsers, command, integer
from tbft.cli.data_options import add_selection, load_samples, show_data
from tbft.errors import DataError

EXAMPLES = """
tbft data corrupt test.tar --all --severity 5 --out CIFAR-10-C
tbft data corrupt test.tar --corruptions fog,frost --out CIFAR-10-C
tbft data corrupt test.tar --drift gaussian_noise:3+labels:reverse --out mixed/
"""


def add(actions: Subparsers) -> None:
    summary = "write a set with drift, in the format of CIFAR-10-C; run it again to resume after a stop"
    corrupt = command(actions, "corrupt", summary, EXAMPLES)
    corrupt.add_argument("data", metavar="SET")
    add_selection(corrupt)
    corrupt.add_argument("--all", action="store_true", help="all corruptions, each in a file of its own")
    corrupt.add_argument("--corruptions", metavar="A,B", help="these corruptions")
    corrupt.add_argument(
        "--severity",
        metavar="S[,S]",
        help="severity of the corruptions (default: all five, one after the other, as in CIFAR-10-C)",
    )
    corrupt.add_argument(
        "--workers", type=integer, metavar="N", help="number of processes (default: one per processor)"
    )
    corrupt.add_argument("--out", metavar="DIR", required=True, help="folder for <drift>.npy and labels.npy")
    corrupt.set_defaults(run=run_corrupt)


def run_corrupt(arguments: argparse.Namespace) -> None:
    from tbft.data.cifar10c import SEVERITIES
    from tbft.scenarios.drift import severity as parse_severity
    from tbft.scenarios.writing import default_workers, write_corruptions, write_drifted

    names = _names(arguments)
    drift, arguments.drift = arguments.drift, None  # applied below, not while reading
    _check_options(arguments, drift)
    if drift:
        samples = load_samples(arguments)
        show_data(samples)
        print(write_drifted(samples, drift, arguments.out, arguments.seed))
        return
    try:
        requested = arguments.severity.split(",") if arguments.severity else SEVERITIES
        severities = [parse_severity(str(s).strip()) for s in requested]
    except ValueError as error:
        raise DataError(f"--severity {arguments.severity!r}: {error}") from None
    workers = default_workers() if arguments.workers is None else arguments.workers
    samples = load_samples(arguments)
    show_data(samples)
    written = write_corruptions(samples, names, arguments.out, severities, arguments.seed, workers)
    existing = len(names) - len(written)
    print(
        f"{arguments.out}: {len(written)} corruptions of {len(samples):,} samples written"
        + (f", {existing} already there" if existing else "")
    )


def _names(arguments: argparse.Namespace) -> list[str]:
    from tbft.errors import unknown
    from tbft.scenarios import drifts

    if arguments.all:
        return [drift.name for drift in drifts() if drift.level == "input"]
    names = [name.strip() for name in (arguments.corruptions or "").split(",") if name.strip()]
    corruptions = {drift.name for drift in drifts() if drift.level == "input"}
    for name in names:
        if name not in corruptions:
            raise DataError(unknown("corruption", name, sorted(corruptions)))
    return names


def _check_options(arguments: argparse.Namespace, drift: str | None) -> None:
    from tbft.scenarios import find_drifts

    if [bool(drift), bool(arguments.all), bool(arguments.corruptions)].count(True) != 1:
        raise DataError("give what to write, by one of --all, --corruptions fog,frost or --drift fog:5")
    if drift and arguments.severity:
        raise DataError("--severity is for --all and --corruptions; write --drift NAME:SEVERITY instead")
    if arguments.workers is not None and arguments.workers < 1:
        raise DataError(f"--workers has to be at least 1, not {arguments.workers}")
    if drift:
        find_drifts(drift)
