"""``tbft data fetch``."""

from __future__ import annotations

import argparse
import sys

from tbft.cli.common import Subparsers, add_json, command, print_json

EXAMPLES = """
tbft data fetch cifar10 --out data
tbft data fetch cifar10-c --out data
"""


def add(actions: Subparsers) -> None:
    fetch = command(
        actions, "fetch", "download an official set; run it again to resume after a stop", EXAMPLES
    )
    fetch.add_argument("name", metavar="NAME", help="cifar10 (170 MB) or cifar10-c (2.9 GB)")
    fetch.add_argument(
        "--out", metavar="DIR", default=".", help="folder to unpack into, made if needed (default: .)"
    )
    fetch.add_argument("--url", help="URL of a mirror; length and checksum have to be the same")
    fetch.add_argument("--keep", action="store_true", help="keep the archive next to the unpacked folder")
    add_json(fetch)
    fetch.set_defaults(run=run_fetch)


def run_fetch(arguments: argparse.Namespace) -> None:
    from tbft.scenarios.fetching import fetch, is_fetched

    was_there = is_fetched(arguments.name, arguments.out)
    try:
        folder = fetch(arguments.name, arguments.out, arguments.url, arguments.keep)
    except KeyboardInterrupt:  # unlike other commands, this one keeps an unfinished file
        print("\ntbft: interrupted; run it again to resume", file=sys.stderr)
        raise SystemExit(130) from None
    if arguments.json:
        print_json({"name": arguments.name, "folder": str(folder), "was_there": was_there})
        return
    if was_there:
        print(f"tbft: {folder} is already there; nothing was downloaded", file=sys.stderr)
    print(folder)
