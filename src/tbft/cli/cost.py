"""``tbft cost``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tbft.cli.common import (
    Subparsers,
    add_json,
    add_model,
    add_profile,
    add_recipe,
    command,
    load_model,
    load_profile,
    load_recipe,
    print_json,
    table,
    whole_number,
)
from tbft.errors import TbftError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbft.blocks import Blocks
    from tbft.choosing.cost import Cost
    from tbft.choosing.counting import BlockCount
    from tbft.data import Samples
    from tbft.metering import Profile
    from tbft.models import Preset
    from tbft.reproduce.system_cost import Row

EXAMPLES = """
tbft cost resnet26-cifar10 --samples 500
tbft cost resnet26-cifar10 --resolution 32 --system
tbft cost my.models:net --resolution 64 --samples 200 --profile board.json --json
"""
#: Seconds of processor time for the pieces of each kind: more than choosing takes, for steadier figures.
STEADY_SECONDS = 0.3
PAPER_MODELS = ("resnet26-cifar10", "resnet26-living17")


def add(commands: Subparsers) -> None:
    parser = command(commands, "cost", "predict what each arm of a model costs on this machine", EXAMPLES)
    add_model(parser)
    parser.add_argument(
        "--samples", type=whole_number, default=1000, metavar="N", help="to tune on (default 1000)"
    )
    parser.add_argument(
        "--resolution", type=whole_number, metavar="PX", help="side of the pictures (default the preset's)"
    )
    add_profile(parser)
    parser.add_argument(
        "--system",
        nargs="?",
        const="job",
        choices=("none", "one", "job"),
        help="measure the paper's table of system costs: one sample and one epoch; with job (or no value) "
        "also a whole job, which takes minutes (default one, for the paper's models)",
    )
    add_recipe(parser, "fast", "how the arms would be trained: fast (default) or paper")
    add_json(parser)
    parser.set_defaults(run=run_cost)


def run_cost(arguments: argparse.Namespace) -> None:
    from tbft.choosing.cost import plans_of, predict_costs
    from tbft.choosing.counting import count_blocks
    from tbft.verification.evaluation import check_fits

    preset, model = load_model(arguments)
    blocks, profile, recipe = preset.split(model), load_profile(arguments), load_recipe(arguments, preset)
    samples = _pictures(arguments, preset)
    check_fits(model, samples)
    count = arguments.samples
    costs = predict_costs(
        blocks,
        plans_of(blocks, recipe),
        samples,
        val_count=count * 3 // 2 if recipe.validate else 0,
        count=count,
        profile=profile,
        least_seconds=STEADY_SECONDS,
        counted=True,
    )
    counts = count_blocks(blocks, samples)
    system = _system(arguments, preset, blocks, samples, profile)
    if arguments.json:
        print_json(_json(arguments, preset, recipe.name, costs, counts, system, profile))
        return
    print(f"{preset.name}, {count:,} samples of {_side(samples)}, recipe {recipe.name}, predicted:\n")
    print(_arms(costs))
    if profile is not None:
        error = "unknown" if profile.relative_error is None else f"{100 * profile.relative_error:.0f} %"
        print(f"\nenergy: estimated by the profile {profile.name} ({profile.board}), error {error}")
    print("\noperations of each block, for one sample:\n\n" + _blocks(counts))
    for title, rows in system.items():
        print(f"\n{title}, processor seconds, measured:\n\n" + _system_table(rows, _side(samples), title))


def _pictures(arguments: argparse.Namespace, preset: Preset) -> Samples:
    from tbft.reproduce.system_cost import pictures

    side = arguments.resolution or preset.inputs.resolution
    if side is None:
        raise TbftError(f"{preset.name} does not say how large its pictures are: give --resolution PX")
    if arguments.samples < 2:
        raise TbftError("--samples: two or more are needed to tune on")
    classes = len(preset.inputs.class_names or ()) or 2
    return pictures(256, side, preset.inputs.channels or 3, classes)


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


def _system(
    arguments: argparse.Namespace,
    preset: Preset,
    blocks: Blocks,
    samples: Samples,
    profile: Profile | None,
) -> dict[str, list[Row]]:
    """Title -> rows of the paper's table."""
    from tbft.reproduce.system_cost import one_sample, whole_job

    asked = arguments.system or ("one" if preset.name in PAPER_MODELS else "none")
    if asked == "none":
        return {}
    if len(blocks) != 4:
        raise TbftError(f"the paper's table is of models of four blocks; {preset.name} has {len(blocks)}")
    found = {"one sample, one epoch": one_sample(blocks, samples, profile=profile)}
    if asked == "job":
        title = f"whole job of {arguments.samples:,} samples"
        found[title] = whole_job(blocks, samples, arguments.samples, profile=profile)
    return found


def _system_table(rows: Sequence[Row], side: str, title: str) -> str:
    from tbft.reproduce.system_cost import WAYS, published

    columns = ("block1", "block2", "block3", "fc", "block avg", "full")
    lines: list[tuple[str, ...]] = [("", *columns, "")]
    for row in rows:
        lines.append((row.way, *map(_short, row.cpu_seconds), "s"))
        lines.append(("  saving", *(_percent(s) for s in row.saving_percent), "%"))
        lines.append(("  of the paper's full", *(_percent(s) for s in row.of_paper_percent), "%"))
        energy = row.energy_joules
        shown = ("unavailable",) * 6 if energy is None else tuple(f"{e:.3g}" for e in energy)
        lines.append(("  energy", *shown, "J" if energy is None else "J, estimated"))
    paper = published(int(side.split()[0]))
    if paper and title.startswith("one sample"):
        for name, key, unit in (
            ("published, Raspberry Pi", "time_s", "s"),
            ("  saving", "saving_pct", "%"),
            ("  energy", "energy_j", "J, its time x a constant"),
        ):
            lines.append((name, *("-" if v is None else f"{v:.3g}" for v in paper[key]), unit))
    return table(lines, right="123456") + "\n\n" + "\n".join(f"{way}: {what}" for way, what in WAYS.items())


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _json(
    arguments: argparse.Namespace,
    preset: Preset,
    recipe: str,
    costs: Mapping[str, Cost],
    counts: Sequence[BlockCount],
    system: Mapping[str, Sequence[Row]],
    profile: Profile | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    from tbft.patches import versions
    from tbft.reproduce.system_cost import COLUMNS, published

    side = arguments.resolution or preset.inputs.resolution
    return {
        "model": preset.name,
        "resolution": side,
        "samples": arguments.samples,
        "recipe": recipe,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "arms": {arm: asdict(cost) for arm, cost in costs.items()},
        "energy_kind": "unavailable" if profile is None else "estimated",
        "energy_source": None if profile is None else f"profile {profile.name}",
        "energy_relative_error": None if profile is None else profile.relative_error,
        "blocks": [asdict(c) for c in counts],
        "system": {title: [asdict(row) for row in rows] for title, rows in system.items()},
        "system_columns": [*COLUMNS[:-1], "block_avg", COLUMNS[-1]],
        "published": published(int(side or 0)),
    }
