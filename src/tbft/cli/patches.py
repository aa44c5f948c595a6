"""``tbft patch show | verify | sign``: a patch itself; ``installing.py`` has the other actions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.cli.data_options import whole_number
from tbft.cli.installing import add_apply, add_log, add_revert
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
    for add_action in (_add_show, _add_verify, add_apply, add_revert, _add_sign, add_log):
        add_action(actions)


def _add_show(actions: Subparsers) -> None:
    show = command(actions, "show", "print the header of a patch", "tbft patch show user.safetensors")
    show.add_argument("patch", metavar="PATCH")
    add_json(show)
    show.set_defaults(run=run_show)


def _add_verify(actions: Subparsers) -> None:
    verify = command(
        actions,
        "verify",
        "check that a patch is intact and, given a checkpoint, that it fits and gives the tuned weights it "
        "describes",
        "tbft patch verify user.safetensors --weights base.pth",
    )
    verify.add_argument("patch", metavar="PATCH")
    verify.add_argument(
        "--weights", metavar="FILE", help="base checkpoint, or a preset that ships with weights"
    )
    verify.add_argument("--key", metavar="FILE", help="public key that must have signed it (.pub)")
    add_json(verify)
    verify.set_defaults(run=run_verify)


def _add_sign(actions: Subparsers) -> None:
    sign = command(
        actions,
        "sign",
        "sign a patch, so that devices can check who made it; needs tbft[sign]",
        "tbft patch sign user.safetensors --key workshop",
    )
    sign.add_argument("patch", metavar="PATCH")
    sign.add_argument("--key", metavar="NAME", required=True, help="a key of `tbft keys new`, or its file")
    sign.add_argument(
        "--serial",
        type=whole_number,
        metavar="N",
        help="serial number, higher than any before (default: seconds since 1970)",
    )
    sign.add_argument("--out", metavar="FILE", help="signed patch to write (default: PATCH itself)")
    add_json(sign)
    sign.set_defaults(run=run_sign)


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
            ("undo of " if header.undoes else "")
            + header.arm
            + (f" (block {header.block})" if header.block else ""),
        ),
        ("level", header.level or "none given"),
        ("model", header.model or "unnamed"),
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
    signer = _signer(patch, arguments.key)
    if arguments.weights is not None:
        patch.verify(read_installed(arguments.weights, patch).state)
    if arguments.json:
        print_json(
            {
                "patch": arguments.patch,
                "intact": True,
                "key": None if patch.signature is None else patch.signature.key,
                "signer": signer,
                "weights": arguments.weights,
                "fits": None if arguments.weights is None else True,
                "tuned_fingerprint": patch.header.tuned_fingerprint,
            }
        )
        return
    intact = f"{arguments.patch} is intact, {_signed(patch, signer)}"
    if arguments.weights is None:
        print(f"{intact}; give --weights BASE to check that it fits a base")
        return
    print(f"{intact}, fits {arguments.weights}, and gives {patch.header.tuned_fingerprint[:12]}...")


def _signer(patch: Patch, key_file: str | None) -> str | None:
    """Who signed the patch, if a key is given to check that or signatures are required; else None."""
    from tbft.patches.keys import read_public
    from tbft.patches.trust import is_required

    if key_file:
        key = read_public(key_file)
        return patch.signer({key.id: key}).name
    return patch.signer().name if is_required() else None


def _signed(patch: Patch, signer: str | None) -> str:
    if signer is not None:
        return f"signed by {signer}"
    if patch.signature is None:
        return "not signed"
    return f"claims to be signed by the key {patch.signature.key} (check that with --key FILE)"


def run_sign(arguments: argparse.Namespace) -> None:
    from tbft.files import PATCH, claim
    from tbft.patches import Patch
    from tbft.patches.keys import read_private

    out = claim(arguments.out or arguments.patch, PATCH)
    key = read_private(arguments.key)
    patch = Patch.load(arguments.patch).signed(key, arguments.serial)
    patch.save(out)
    assert patch.signature is not None
    if arguments.json:
        signed = {"signer": key.public.name, "key": key.public.id, "serial": patch.signature.serial}
        print_json({"patch": str(out), **signed})
        return
    print(f"{out} is signed by {key.public.name} ({key.public.id}), serial {patch.signature.serial}")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
