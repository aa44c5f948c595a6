"""``tbft cache show | clear``."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.tuning.kept import Kept


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "cache",
        "show or remove the prefix caches and unfinished runs in a folder",
        "tbft cache show caches\ntbft cache clear caches",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    show = command(actions, "show", "list them with their size and state", "tbft cache show")
    show.add_argument("folder", metavar="DIR", nargs="?", default=".", help="default: the current one")
    add_json(show)
    show.set_defaults(run=run_show)

    clear = command(
        actions,
        "clear",
        "remove prefix caches and leftovers of killed processes",
        "tbft cache clear caches",
    )
    clear.add_argument("folder", metavar="DIR", nargs="?", default=".", help="default: the current one")
    clear.add_argument(
        "--runs", action="store_true", help="also remove unfinished runs, which can then not be resumed"
    )
    clear.set_defaults(run=run_clear)


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.tuning.kept import kept_in

    files = kept_in(arguments.folder)
    if arguments.json:
        print_json([{**vars(kept), "path": str(kept.path)} for kept in files])
        return
    total = sum(kept.size_bytes for kept in files)
    print(f"{arguments.folder}: {len(files)} files, {total / 2**20:,.1f} MiB")
    if files:
        print(table([("file", "what", "MiB", "written", "state"), *map(_row, files)], right="2"))


def run_clear(arguments: argparse.Namespace) -> None:
    from tbft.tuning.kept import RUN, kept_in

    files = [kept for kept in kept_in(arguments.folder) if arguments.runs or kept.kind != RUN]
    for kept in files:
        kept.path.unlink(missing_ok=True)
    total = sum(kept.size_bytes for kept in files)
    print(f"{arguments.folder}: {len(files)} files removed, {total / 2**20:,.1f} MiB")


def _row(kept: Kept) -> tuple[str, ...]:
    state = {True: "intact", False: "damaged", None: "left by a killed process"}[kept.whole]
    written = datetime.fromtimestamp(kept.modified).isoformat(" ", "minutes")
    return kept.path.name, kept.kind, f"{kept.size_bytes / 2**20:,.1f}", written, state
