"""``tbft data fetch``."""

from __future__ import annotations

import argparse

from tbft.cli.common import Subparsers, command

EXAMPLES = """
tbft data fetch cifar10 --out data
tbft data fetch cifar10-c --out data
"""


def add(actions: Subparsers) -> None:
    fetch = command(
        actions, "fetch", "download an official set; run it again to go on after a stop", EXAMPLES
    )
    fetch.add_argument("name", metavar="NAME", help="cifar10 (170 MB) or cifar10-c (2.9 GB)")
    fetch.add_argument("--out", metavar="DIR", default=".", help="folder to unpack into (default: this one)")
    fetch.add_argument("--url", help="a mirror; length and checksum have to be the same")
    fetch.set_defaults(run=run_fetch)


def run_fetch(arguments: argparse.Namespace) -> None:
    from tbft.data.fetching import fetch

    print(fetch(arguments.name, arguments.out, arguments.url))
