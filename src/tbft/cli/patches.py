"""``tbft patch show | verify | apply | revert | log | sign``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.cli.data_options import whole_number
from tbft.errors import PatchError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.patches import Patch

EXAMPLES = """
tbft patch show user.safetensors
tbft patch verify user.safetensors --weights base.pth
tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors
tbft patch log tuned.safetensors
tbft patch revert --weights tuned.safetensors --out base-again.safetensors
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "patch", "show, verify, apply or revert a patch", EXAMPLES)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    show = command(actions, "show", "print what a patch says of itself", "tbft patch show user.safetensors")
    show.add_argument("patch", metavar="PATCH")
    add_json(show)
    show.set_defaults(run=run_show)

    verify = command(
        actions,
        "verify",
        "check that a patch is whole and, given a checkpoint, that it fits and leads where it says",
        "tbft patch verify user.safetensors --weights base.pth",
    )
    verify.add_argument("patch", metavar="PATCH")
    verify.add_argument("--weights", metavar="FILE", help="the base checkpoint")
    verify.add_argument("--key", metavar="FILE", help="public key that has to have signed it (.pub)")
    verify.set_defaults(run=run_verify)

    apply = command(
        actions,
        "apply",
        "write base + patch, and beside it what undoes it (OUT.*.undo); again to put another patch on top",
        "tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors",
    )
    apply.add_argument("patch", metavar="PATCH")
    apply.add_argument("--weights", metavar="FILE", required=True, help="the base checkpoint")
    apply.add_argument("--out", metavar="FILE", required=True, help="the tuned checkpoint to write")
    apply.set_defaults(run=run_apply)

    revert = command(
        actions,
        "revert",
        "write the checkpoint without the patch that was put on last; again for the one before",
        "tbft patch revert --weights tuned.safetensors\n"
        "tbft patch revert user.safetensors --weights tuned.safetensors --out base-again.safetensors",
    )
    revert.add_argument("patch", metavar="PATCH", nargs="?", help="the patch to take off, or what undoes it")
    revert.add_argument("--weights", metavar="FILE", required=True, help="the tuned checkpoint")
    revert.add_argument("--undo", metavar="FILE", help="what undoes it (default: found beside WEIGHTS)")
    revert.add_argument("--out", metavar="FILE", help="the checkpoint to write (default: WEIGHTS itself)")
    revert.set_defaults(run=run_revert)

    sign = command(
        actions,
        "sign",
        "sign a patch, so that devices know who made it; needs tbft[sign]",
        "tbft patch sign user.safetensors --key workshop",
    )
    sign.add_argument("patch", metavar="PATCH")
    sign.add_argument("--key", metavar="NAME", required=True, help="a key of `tbft keys new`, or its file")
    sign.add_argument(
        "--serial", type=whole_number, metavar="N", help="higher than before (default: seconds since 1970)"
    )
    sign.add_argument("--out", metavar="FILE", help="where to write it (default: PATCH itself)")
    sign.set_defaults(run=run_sign)

    log = command(
        actions,
        "log",
        "list the patches on a checkpoint, the last one first",
        "tbft patch log tuned.safetensors",
    )
    log.add_argument("weights", metavar="FILE", help="a checkpoint that `tbft patch apply` wrote")
    add_json(log)
    log.set_defaults(run=run_log)


def run_show(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.patches import Patch

    patch = Patch.load(arguments.patch)
    header = patch.header
    size = Path(arguments.patch).stat().st_size
    if arguments.json:
        tensors = {k: {"shape": list(t.shape), "dtype": str(t.dtype)} for k, t in patch.tensors.items()}
        signature = None if patch.signature is None else asdict(patch.signature)
        print_json({**asdict(header), "signature": signature, "size_bytes": size, "tensors": tensors})
        return
    scalars = sum(t.numel() for t in patch.tensors.values())
    rows = [
        ("patch", f"{arguments.patch}, {size:,} bytes, format {header.format_version}"),
        (
            "what",
            ("undoes " if header.undoes else "")
            + header.arm
            + (f" (block {header.block})" if header.block else ""),
        ),
        ("level", header.level or "not named"),
        ("model", header.model or "not named"),
        ("tensors", f"{len(patch.tensors)}, {scalars:,} scalars"),
        ("base", header.base_fingerprint),
        ("tuned", header.tuned_fingerprint),
        ("recipe", str(header.recipe.get("name", "none"))),
        (
            "measured",
            ", ".join(f"{k} {_shown(v)}" for k, v in header.measured.items() if v is not None) or "nothing",
        ),
        ("signed by", "nobody" if patch.signature is None else f"the key {patch.signature.key}"),
        ("made", f"{header.created} with " + ", ".join(f"{k} {v}" for k, v in header.versions.items())),
    ]
    print(table(rows))


def run_verify(arguments: argparse.Namespace) -> None:
    from tbft.patches import Patch
    from tbft.patches.installed import read_installed

    patch = Patch.load(arguments.patch)
    whole = f"{arguments.patch} is whole, {_signed(patch, arguments.key)}"
    if arguments.weights is None:
        print(f"{whole}; give --weights BASE to check that it fits a base")
        return
    patch.verify(read_installed(arguments.weights, patch).state)
    print(f"{whole}, fits {arguments.weights}, and leads to {patch.header.tuned_fingerprint[:12]}...")


def _signed(patch: Patch, key_file: str | None) -> str:
    """By whom, checked where a key is named or a signature required."""
    from tbft.patches.keys import read_public
    from tbft.patches.trust import is_required

    if key_file:
        key = read_public(key_file)
        return f"signed by {patch.signer({key.id: key}).name}"
    if is_required():
        return f"signed by {patch.signer().name}"
    if patch.signature is None:
        return "not signed"
    return f"says that the key {patch.signature.key} signed it (--key FILE checks that)"


def run_apply(arguments: argparse.Namespace) -> None:
    from tbft.files import claim
    from tbft.patches import Patch
    from tbft.patches.installed import put_on

    out = claim(arguments.out, ".safetensors", inputs=[arguments.patch])
    made, undo = put_on(Patch.load(arguments.patch), arguments.weights, out)
    count = len(made.log.entries)
    print(f"{out} is {arguments.weights} + {arguments.patch} ({_patches(count)} on it now)")
    print(f"beside it, {undo.name} undoes that: keep it")


def run_revert(arguments: argparse.Namespace) -> None:
    from tbft.files import claim
    from tbft.patches import Patch
    from tbft.patches.installed import take_off

    out = claim(arguments.out or arguments.weights, ".safetensors", [arguments.patch, arguments.undo])
    undo = Patch.load(arguments.undo) if arguments.undo else None
    if arguments.patch:
        patch = Patch.load(arguments.patch)
        if patch.header.undoes:
            undo = patch
        else:
            _check_last(patch, arguments)
    made = take_off(arguments.weights, out, undo)
    left = len(made.log.entries)
    what = f"is as before the last patch ({_patches(left)} left)" if left else "is the base again"
    print(f"{out} {what}: {made.fingerprint[:12]}...")


def run_sign(arguments: argparse.Namespace) -> None:
    from tbft.files import claim
    from tbft.patches import Patch
    from tbft.patches.keys import read_private

    out = claim(arguments.out or arguments.patch, ".safetensors")
    key = read_private(arguments.key)
    patch = Patch.load(arguments.patch).signed(key, arguments.serial)
    patch.save(out)
    assert patch.signature is not None
    print(f"{out} is signed by {key.public.name} ({key.public.id}), serial {patch.signature.serial}")


def run_log(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.patches.installed import read_installed

    found = read_installed(arguments.weights)
    entries = [{**asdict(e), "undo": _name(found.undo_file(e))} for e in reversed(found.log.entries)]
    if arguments.json:
        print_json({"file": str(found.path), "fingerprint": found.fingerprint, "patches": entries})
        return
    print(f"{found.path}: {_patches(len(entries))}, {found.fingerprint[:12]}...")
    if entries:
        columns = ("arm", "made", "put on", "leads to", "signed by", "undone by")
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
    """Raise PatchError unless a patch is the last one on the checkpoint."""
    from tbft.patches.installed import read_installed

    entries = read_installed(arguments.weights).log.entries
    if entries and entries[-1].tuned != patch.header.tuned_fingerprint:
        raise PatchError(
            f"{arguments.patch} is not the last patch on {arguments.weights}: take off the others first "
            f"(see `tbft patch log {arguments.weights}`)"
        )


def _patches(count: int) -> str:
    return "1 patch" if count == 1 else f"{count} patches"


def _name(path: Path | None) -> str | None:
    return None if path is None else path.name


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
