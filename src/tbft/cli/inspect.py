"""``tbft blocks`` and ``tbft models``."""

from __future__ import annotations

import argparse

from tbft.cli.common import Subparsers, add_json, add_model, command, load_model, print_json
from tbft.report.terminal import table


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "blocks",
        "show the blocks of a model",
        "tbft blocks resnet26-cifar10\ntbft blocks my.models:net --cuts layer2,fc --names front,middle,rear",
    )
    add_model(parser)
    parser.add_argument("--keys", action="store_true", help="also list the state-dict keys of each block")
    add_json(parser)
    parser.set_defaults(run=run_blocks)
    parser = command(commands, "models", "list the presets", "tbft models")
    add_json(parser)
    parser.set_defaults(run=run_models)


def run_blocks(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    preset, model = load_model(arguments)
    blocks = preset.split(model)
    if arguments.json:
        print_json({"model": preset.name, "head": blocks.head, "blocks": [asdict(b) for b in blocks]})
        return
    rows = [("block", "starts at", "parameters", "bytes", "keys")]
    for b in blocks:
        rows.append(
            (b.name, b.cut or "the input", f"{b.parameter_count:,}", f"{b.size_bytes:,}", str(len(b.keys)))
        )
    parameters = sum(b.parameter_count for b in blocks)
    keys = sum(len(b.keys) for b in blocks)
    rows.append(("total", "", f"{parameters:,}", f"{sum(b.size_bytes for b in blocks):,}", str(keys)))
    print(table(rows, right="234"))
    if arguments.keys:
        for b in blocks:
            print(f"\n{b.name}:\n  " + "\n  ".join(b.keys))


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
