"""``tbft cost``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tbft.cli.common import Subparsers, add_json, add_profile, command, load_profile, print_json, show_notes
from tbft.cli.data_options import whole_number
from tbft.cli.model_options import add_model, add_recipe, load_model, load_recipe, settle_threads
from tbft.errors import TbftError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbft.choosing.cost import Cost
    from tbft.choosing.counting import BlockCount
    from tbft.data import Samples
    from tbft.metering import Profile
    from tbft.models import Preset

EXAMPLES = """
tbft cost resnet26-cifar10 --samples 500
tbft cost resnet26-cifar10 --resolution 64 --recipe paper
tbft cost my.models:net --resolution 64 --samples 200 --profile board.json --json
"""
#: Seconds to time the operations of each kind: more than for choosing, for steadier figures.
STEADY_SECONDS = 0.3


def add(commands: Subparsers) -> None:
    parser = command(commands, "cost", "predict what each arm of a model costs on this machine", EXAMPLES)
    add_model(parser)
    parser.add_argument(
        "--samples",
        type=whole_number,
        default=1000,
        metavar="N",
        help="number of training samples (default 1000)",
    )
    parser.add_argument(
        "--resolution",
        type=whole_number,
        metavar="PX",
        help="side of the pictures (default: the preset's)",
    )
    add_profile(parser)
    add_recipe(parser, "fast", "recipe for the arms: fast (default) or paper")
    add_json(parser)
    parser.set_defaults(run=run_cost)


def run_cost(arguments: argparse.Namespace) -> None:
    from tbft.choosing.cost import Prediction, plans_of, predict_costs
    from tbft.choosing.counting import count_blocks
    from tbft.plan import find_recipe
    from tbft.verification.compatibility import check_fits

    preset, model = load_model(arguments)
    blocks, profile, recipe = (
        preset.split(model),
        load_profile(arguments),
        load_recipe(arguments, lambda name: find_recipe(name, preset.recipes)),
    )
    samples = _pictures(arguments, preset)
    check_fits(model, samples)
    samples = settle_threads(arguments, blocks, samples)
    show_notes(samples.notes)
    count = arguments.samples
    how = Prediction(
        val_count=count * 3 // 2 if recipe.duration.validate else 0,
        count=count,
        profile=profile,
        min_seconds=STEADY_SECONDS,
        counted=True,
    )
    costs = predict_costs(blocks, plans_of(blocks, recipe), samples, how)
    counts = count_blocks(blocks, samples)
    if arguments.json:
        values = _json(arguments, preset, recipe.name, costs, counts, profile)
        print_json({**values, "notes": list(samples.notes)})
        return
    print(f"{preset.name}, {count:,} samples of {_side(samples)}, recipe {recipe.name}, predicted:\n")
    print(_arms(costs))
    if profile is not None:
        error = "unknown" if profile.relative_error is None else f"{100 * profile.relative_error:.0f} %"
        print(f"\nenergy: estimated from the profile {profile.name} ({profile.board}), error {error}")
    print("\noperations of each block per sample:\n\n" + _blocks(counts))


def _pictures(arguments: argparse.Namespace, preset: Preset) -> Samples:
    from tbft.data.placeholder import random_pictures

    side = arguments.resolution or preset.inputs.resolution
    if side is None:
        raise TbftError(f"{preset.name} does not declare the size of its pictures: give --resolution PX")
    if arguments.samples < 2:
        raise TbftError("--samples has to be 2 or more")
    classes = len(preset.inputs.class_names or ()) or 2
    return random_pictures(256, side, preset.inputs.channels or 3, classes)


def _side(samples: Samples) -> str:
    return f"{samples.inputs.shape[1]} px"


def _arms(costs: Mapping[str, Cost]) -> str:
    rows: list[tuple[str, ...]] = [
        ("arm", "GFLOPs", "step MFLOPs: forward", "backward", "optimizer", "saved MiB", "cache MiB",
         "patch kB", "processor s", "joules")
    ]  # fmt: skip
    for arm, cost in costs.items():
        step = cost.step
        parts: tuple[str, ...] = ("-",) * 4
        if step is not None:
            counted = (step.forward_flops, step.backward_flops, step.optimizer_flops)
            parts = (*(f"{n / 1e6:,.1f}" for n in counted), f"{step.saved_bytes / 2**20:,.1f}")
        rows.append(
            (
                arm,
                f"{(cost.flops or 0) / 1e9:,.1f}",
                *parts,
                f"{cost.cache_bytes / 2**20:,.1f}",
                f"{cost.patch_bytes / 1e3:,.1f}",
                f"{cost.cpu_seconds:,.2f}",
                "unavailable" if cost.energy_joules is None else f"{cost.energy_joules:,.1f} (estimated)",
            )
        )
    return table(rows, right="123456789")


def _blocks(counts: Sequence[BlockCount]) -> str:
    rows: list[tuple[str, ...]] = [("block", "forward MFLOPs", "backward, inputs", "backward, weights")]
    for c in counts:
        numbers = (c.forward_flops, c.input_flops, c.weight_flops)
        rows.append((c.name, *(f"{n / 1e6:,.2f}" for n in numbers)))
    return table(rows, right="123")


def _json(
    arguments: argparse.Namespace,
    preset: Preset,
    recipe: str,
    costs: Mapping[str, Cost],
    counts: Sequence[BlockCount],
    profile: Profile | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    from tbft.patches import versions

    return {
        "model": preset.name,
        "resolution": arguments.resolution or preset.inputs.resolution,
        "samples": arguments.samples,
        "recipe": recipe,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "arms": {arm: asdict(cost) for arm, cost in costs.items()},
        "energy_kind": "unavailable" if profile is None else "estimated",
        "energy_source": None if profile is None else f"profile {profile.name}",
        "energy_relative_error": None if profile is None else profile.relative_error,
        "blocks": [asdict(c) for c in counts],
    }
