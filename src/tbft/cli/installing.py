"""``tbft patch apply | revert | log``: patches on a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.errors import PatchError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.patches import Patch


def add_apply(actions: Subparsers) -> None:
    apply = command(
        actions,
        "apply",
        "write base + patch, and next to it the undo patch (OUT.*.undo); repeat to stack patches",
        "tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors",
    )
    apply.add_argument("patch", metavar="PATCH")
    apply.add_argument(
        "--weights",
        metavar="FILE",
        required=True,
        help="base checkpoint, or a preset that ships with weights",
    )
    apply.add_argument("--out", metavar="FILE", required=True, help="tuned checkpoint to write")
    add_json(apply)
    apply.set_defaults(run=run_apply)


def add_revert(actions: Subparsers) -> None:
    revert = command(
        actions,
        "revert",
        "write the checkpoint without the last patch; repeat for the patch before it",
        "tbft patch revert --weights tuned.safetensors\n"
        "tbft patch revert user.safetensors --weights tuned.safetensors --out base-again.safetensors",
    )
    revert.add_argument("patch", metavar="PATCH", nargs="?", help="patch to revert, or its undo patch")
    revert.add_argument("--weights", metavar="FILE", required=True, help="tuned checkpoint")
    revert.add_argument("--undo", metavar="FILE", help="undo patch (default: the one next to WEIGHTS)")
    revert.add_argument("--out", metavar="FILE", help="checkpoint to write (default: WEIGHTS itself)")
    add_json(revert)
    revert.set_defaults(run=run_revert)


def add_log(actions: Subparsers) -> None:
    log = command(
        actions,
        "log",
        "list the patches on a checkpoint, last one first",
        "tbft patch log tuned.safetensors",
    )
    log.add_argument("weights", metavar="FILE", help="a checkpoint written by `tbft patch apply`")
    add_json(log)
    log.set_defaults(run=run_log)


def run_apply(arguments: argparse.Namespace) -> None:
    from tbft.files import WEIGHTS, claim
    from tbft.patches import Patch
    from tbft.patches.installed import put_on

    out = claim(arguments.out, WEIGHTS, inputs=[arguments.patch])
    tuned, undo = put_on(Patch.load(arguments.patch), arguments.weights, out)
    count = _patches(len(tuned.log.entries))
    if arguments.json:
        patches = len(tuned.log.entries)
        print_json({"out": str(out), "undo": undo.name, "fingerprint": tuned.fingerprint, "patches": patches})
        return
    print(f"{out} is {arguments.weights} + {arguments.patch} ({count} in total)")
    print(f"keep {undo.name} next to it to undo the patch")


def run_revert(arguments: argparse.Namespace) -> None:
    from tbft.files import WEIGHTS, claim
    from tbft.patches import Patch
    from tbft.patches.installed import take_off

    out = claim(arguments.out or arguments.weights, WEIGHTS, [arguments.patch, arguments.undo])
    undo = Patch.load(arguments.undo) if arguments.undo else None
    if arguments.patch:
        patch = Patch.load(arguments.patch)
        if patch.header.undoes:
            undo = patch
        else:
            _check_last(patch, arguments)
    reverted = take_off(arguments.weights, out, undo)
    left = len(reverted.log.entries)
    if arguments.json:
        print_json({"out": str(out), "fingerprint": reverted.fingerprint, "patches": left})
        return
    what = f"is without the last patch ({_patches(left)} left)" if left else "is the base again"
    print(f"{out} {what}: {reverted.fingerprint[:12]}...")


def run_log(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.patches.installed import read_installed

    installed = read_installed(arguments.weights)
    entries = [{**asdict(e), "undo": _name(installed.undo_file(e))} for e in reversed(installed.log.entries)]
    if arguments.json:
        print_json({"file": str(installed.path), "fingerprint": installed.fingerprint, "patches": entries})
        return
    print(f"{installed.path}: {_patches(len(entries))}, {installed.fingerprint[:12]}...")
    if entries:
        columns = ("arm", "made", "applied", "gives", "signed by", "undo patch")
        rows = [
            (
                e["arm"],
                e["created"],
                e["applied"],
                e["tuned"][:12],
                e["signer"] or "-",
                e["undo"] or "missing",
            )
            for e in entries
        ]
        print(table([columns, *rows]))


def _check_last(patch: Patch, arguments: argparse.Namespace) -> None:
    """Raise PatchError unless the patch is the last one on the checkpoint."""
    from tbft.patches.installed import read_installed

    entries = read_installed(arguments.weights).log.entries
    if entries and entries[-1].tuned != patch.header.tuned_fingerprint:
        raise PatchError(
            f"{arguments.patch} is not the last patch on {arguments.weights}: revert the later ones first "
            f"(see `tbft patch log {arguments.weights}`)"
        )


def _patches(count: int) -> str:
    return "1 patch" if count == 1 else f"{count} patches"


def _name(path: Path | None) -> str | None:
    return None if path is None else path.name
