"""``tbft patch show | verify | apply | revert``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json, table
from tbft.errors import PatchError

if TYPE_CHECKING:
    from torch import Tensor

    from tbft.patches import Patch

EXAMPLES = """
tbft patch show user.safetensors
tbft patch verify user.safetensors --weights base.pth
tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors
tbft patch revert user.safetensors --weights tuned.safetensors --out base-again.safetensors
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
    verify.set_defaults(run=run_verify)

    apply = command(
        actions,
        "apply",
        "write base + patch, and beside it the patch that undoes it (OUT.undo)",
        "tbft patch apply user.safetensors --weights base.pth --out tuned.safetensors",
    )
    apply.add_argument("patch", metavar="PATCH")
    apply.add_argument("--weights", metavar="FILE", required=True, help="the base checkpoint")
    apply.add_argument("--out", metavar="FILE", required=True, help="the tuned checkpoint to write")
    apply.set_defaults(run=run_apply)

    revert = command(
        actions,
        "revert",
        "write tuned - patch, the base again, with the undo patch that apply left",
        "tbft patch revert user.safetensors --weights tuned.safetensors --out base-again.safetensors",
    )
    revert.add_argument("patch", metavar="PATCH", help="the patch to take off, or its undo patch")
    revert.add_argument("--weights", metavar="FILE", required=True, help="the tuned checkpoint")
    revert.add_argument("--undo", metavar="FILE", help="the undo patch (default: WEIGHTS.undo)")
    revert.add_argument("--out", metavar="FILE", required=True, help="the base checkpoint to write")
    revert.set_defaults(run=run_revert)


def run_show(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.patches import Patch

    patch = Patch.load(arguments.patch)
    header = patch.header
    size = Path(arguments.patch).stat().st_size
    if arguments.json:
        tensors = {k: {"shape": list(t.shape), "dtype": str(t.dtype)} for k, t in patch.tensors.items()}
        print_json({**asdict(header), "size_bytes": size, "tensors": tensors})
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
        ("made", f"{header.created} with " + ", ".join(f"{k} {v}" for k, v in header.versions.items())),
    ]
    print(table(rows))


def run_verify(arguments: argparse.Namespace) -> None:
    from tbft.patches import Patch

    patch = Patch.load(arguments.patch)
    if arguments.weights is None:
        print(f"{arguments.patch} is whole; give --weights BASE to check that it fits a base")
        return
    patch.verify(_state_for(patch, arguments.weights))
    leads_to = patch.header.tuned_fingerprint[:12]
    print(f"{arguments.patch} is whole, fits {arguments.weights}, and leads to {leads_to}...")


def run_apply(arguments: argparse.Namespace) -> None:
    from tbft.files import check_writable
    from tbft.models import save_weights
    from tbft.patches import Patch

    out = check_writable(arguments.out, ".safetensors")
    patch = Patch.load(arguments.patch)
    state = _state_for(patch, arguments.weights)
    tuned, undo = patch.applied_to(state), patch.undo(state)
    undo.save(_undo_path(out))
    save_weights(tuned, out)
    print(f"{out} is {arguments.weights} + {arguments.patch}; {_undo_path(out)} undoes it")


def run_revert(arguments: argparse.Namespace) -> None:
    from tbft.files import check_writable
    from tbft.models import save_weights

    out = check_writable(arguments.out, ".safetensors")
    undo = _find_undo(arguments)
    base = undo.applied_to(_state_for(undo, arguments.weights))
    save_weights(base, out)
    print(f"{out} is the base again ({undo.header.tuned_fingerprint[:12]}...)")


def _find_undo(arguments: argparse.Namespace) -> Patch:
    from tbft.patches import Patch

    patch = Patch.load(arguments.patch)
    if patch.header.undoes:
        return patch
    path = Path(arguments.undo) if arguments.undo else _undo_path(Path(arguments.weights))
    if not path.exists():
        raise PatchError(
            f"{path}: no such undo patch; give the one that `tbft patch apply` left with --undo FILE"
        )
    undo = Patch.load(path)
    if undo.header.tuned_fingerprint != patch.header.base_fingerprint:
        raise PatchError(
            f"{path} undoes another patch than {arguments.patch}; give the right one with --undo FILE"
        )
    return undo


def _state_for(patch: Patch, weights: str) -> dict[str, Tensor]:
    """A checkpoint's state; with the BatchNorm counters that old ones lack, if the patch's base has them."""
    from tbft.blocks.tensors import fingerprint
    from tbft.models import read_state, with_counters

    state = read_state(weights)
    complete = with_counters(state)
    return complete if fingerprint(complete) == patch.header.base_fingerprint else state


def _undo_path(weights: Path) -> Path:
    return weights.with_name(weights.name + ".undo")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
