"""``tbft blocks`` and ``tbft models``."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.cli.model_options import add_model, load_model
from tbft.report.terminal import table

if TYPE_CHECKING:
    from torch import Tensor

    from tbft.blocks.cutting import Proposal
    from tbft.models import Preset


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "blocks",
        "show the blocks of a model",
        "tbft blocks resnet26-cifar10\ntbft blocks my.models:net --input 3,32,32\n"
        "tbft blocks my.models:net --cuts layer2,fc --names front,middle,rear",
    )
    add_model(parser, samples=False)
    parser.add_argument(
        "--input",
        metavar="SIZES",
        help="sizes of one sample, such as 3,32,32, to run the blocks on random numbers (or, with :ids, on "
        "random token ids, as in 128:ids): they are compared with the model, and their FLOPs counted",
    )
    parser.add_argument("--keys", action="store_true", help="also list the state-dict keys of each block")
    add_json(parser)
    parser.set_defaults(run=run_blocks)
    parser = command(commands, "models", "list the presets", "tbft models")
    add_json(parser)
    parser.set_defaults(run=run_models)


def run_blocks(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.blocks.cutting import propose_cuts

    preset, model = load_model(arguments)
    example = _example(arguments.input, preset)
    blocks = preset.split(model, example)
    proposal = None if preset.cuts or hasattr(model, "cuts") else propose_cuts(model, example)
    if arguments.json:
        found = [] if proposal is None else [asdict(c) for c in proposal.candidates]
        reason = "as the model declares" if proposal is None else proposal.reason
        print_json(
            {
                "model": preset.name,
                "head": blocks.head,
                "blocks": [asdict(b) for b in blocks],
                "cuts": list(blocks.cuts),
                "reason": reason,
                "candidates": found,
            }
        )
        return
    if proposal is not None:
        print(_proposal_text(proposal))
    rows = [("block", "starts at", "parameters", "bytes", "keys")]
    for b in blocks:
        rows.append(
            (b.name, b.cut or "the input", f"{b.parameter_count:,}", f"{b.size_bytes:,}", str(len(b.keys)))
        )
    parameters = sum(b.parameter_count for b in blocks)
    keys = sum(len(b.keys) for b in blocks)
    rows.append(("total", "", f"{parameters:,}", f"{sum(b.size_bytes for b in blocks):,}", str(keys)))
    print(table(rows, right="234"))
    if frozen := sum(b.frozen_count for b in blocks):
        print(f"not counted: {frozen:,} numbers that the model holds frozen (requires_grad=False)")
    print(f"head: {blocks.head}")
    if arguments.keys:
        for b in blocks:
            print(f"\n{b.name}:\n  " + "\n  ".join(b.keys))


def _proposal_text(proposal: Proposal) -> str:
    """The places at which the model can be cut, and why some of them were chosen."""
    with_flops = any(c.forward_flops is not None for c in proposal.candidates)
    rows = [("", "can be cut at", "parameters", "layers", *(["MFLOPs"] if with_flops else []))]
    for c in proposal.candidates:
        cost = [f"{(c.forward_flops or 0) / 1e6:,.2f}"] if with_flops else []
        mark = "*" if c.path in proposal.cuts else ""
        rows.append((mark, c.path or "the input", f"{c.parameter_count:,}", str(c.layer_count), *cost))
    lines = [table(rows, right="234"), "", f"* chosen: {proposal.reason}."]
    if proposal.crossed:
        places = ", ".join(proposal.crossed)
        lines.append(f"No cut at {places}: skip connections run past, so more than one tensor crosses.")
    return "\n".join([*lines, "Other cuts: --cuts A,B, or an attribute cuts of the model.", ""])


#: Maximum number of values in a sample of `--input`.
MAX_EXAMPLE = 1 << 28


def _example(sizes: str | None, preset: Preset) -> Tensor | None:
    """Two samples of random numbers, of the sizes given or of those that the model declares."""
    import torch

    from tbft.errors import TbftError

    side, channels = preset.inputs.resolution, preset.inputs.channels
    if sizes is None:
        return None if side is None or channels is None else torch.rand(2, channels, side, side)
    numbers, _, kind = sizes.partition(":")
    try:
        shape = [int(n) for n in numbers.split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_EXAMPLE or kind not in ("", "ids"):
        raise TbftError(f"--input {sizes}: give the sizes of one sample, such as 3,32,32 or 128:ids")
    return torch.ones(2, *shape, dtype=torch.long) if kind else torch.rand(2, *shape)


def run_models(arguments: argparse.Namespace) -> None:
    from tbft.models import presets

    if arguments.json:
        listed = {
            p.name: {
                "summary": p.summary,
                "cuts": p.cuts,
                "block_names": p.block_names,
                "class_names": p.inputs.class_names,
                "resolution": p.inputs.resolution,
                "channels": p.inputs.channels,
                "mean": p.mean,
                "std": p.std,
            }
            for p in presets()
        }
        print_json(listed)
        return
    rows = [("preset", "input", "classes", "blocks", "")]
    for p in presets():
        side = f"{p.inputs.channels}x{p.inputs.resolution}x{p.inputs.resolution}"
        rows.append(
            (p.name, side, str(len(p.inputs.class_names or ())), " ".join(p.block_names or ()), p.summary)
        )
    print(table(rows, right="2"))
