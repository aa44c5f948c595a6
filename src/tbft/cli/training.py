"""``tbft train``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli import signals
from tbft.cli.common import (
    Subparsers,
    add_json,
    add_meter,
    command,
    load_meter,
    print_json,
    progress_bar,
    set_aside,
    show_notes,
    write_json,
)
from tbft.cli.data_options import add_data, load_samples, show_data
from tbft.cli.model_options import add_model, add_recipe, load_model, load_recipe, settle_threads
from tbft.cli.parts_options import add_grouping
from tbft.errors import DataError

if TYPE_CHECKING:
    from tbft.blocks import Blocks
    from tbft.data import Samples

EXAMPLES = """
tbft train resnet26-cifar10 --data train.tar --out base.safetensors
tbft train resnet26-cifar10 --data train.tar --recipe base-paper --out base.safetensors
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "train", "train a base model; run it again to resume after a stop", EXAMPLES)
    add_model(parser, weights=False)
    add_data(parser)
    parser.add_argument(
        "--val", metavar="N", default="0.1", help="samples held out to choose the epoch (default 0.1)"
    )
    add_grouping(parser)
    add_recipe(parser, "base-short", "base-short (default) or base-paper")
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="checkpoint to write (.safetensors); next to it are written its source card "
        "(.card.safetensors), built from the held-out part, and a record of the training (.json)",
    )
    parser.add_argument("--restart", action="store_true", help="ignore an unfinished run")
    add_meter(parser)
    add_json(parser)
    parser.set_defaults(run=run_train)


def run_train(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    import torch

    from tbft.data import parse_amount
    from tbft.data.amounts import Amounts, SplitBy
    from tbft.data.splitting import split_by
    from tbft.files import CARD, RECORD, WEIGHTS, claim
    from tbft.models import save_weights
    from tbft.patches import versions
    from tbft.plan import find_recipe
    from tbft.tuning.base_training import train_base
    from tbft.tuning.loop import Run

    out = claim(arguments.out, WEIGHTS, [arguments.data])
    card, record_file = out.with_suffix(".card.safetensors"), claim(out.with_suffix(".json"), RECORD)
    claim(card, CARD, [arguments.data])
    unfinished = out.with_name(out.name + ".resume.pt")
    torch.manual_seed(arguments.seed)
    preset, model = load_model(arguments)
    recipe = load_recipe(arguments, lambda name: find_recipe(name, preset.recipes))
    samples = load_samples(arguments, preset.inputs)
    # Cuts that do not work are reported before hours of training, not after.
    blocks = preset.split(model, samples.batch(slice(0, 2))[0])
    samples = settle_threads(arguments, blocks, samples)
    if recipe.computation.augment != "none" and samples.inputs.ndim != 4:
        recipe = replace(recipe, computation=replace(recipe.computation, augment="none"))
        samples = samples.noted("the inputs are not pictures: no random crops and mirroring in training")
    by = SplitBy(arguments.seed, arguments.group_by, arguments.order, val_use="epoch")
    parts = split_by(samples, Amounts(val=parse_amount(arguments.val)), by)
    data = show_data(samples, parts)
    if arguments.restart:
        unfinished.unlink(missing_ok=True)
    meter = load_meter(arguments)
    with meter, progress_bar(f"training {preset.name}", meter) as on_step:
        run = Run(arguments.seed, on_step=on_step)
        try:
            state = train_base(model, recipe, parts.train, parts.val, run, unfinished)
        except KeyboardInterrupt:
            if unfinished.exists():
                signals.left_behind = "completed epochs are kept; run it again to resume"
            raise
    save_weights(state.best, out)
    best = state.history[state.best_epoch - 1]
    record = {
        "model": preset.name,
        "out": str(out),
        "card": _write_card(blocks, parts.val, card),
        **data,
        "train_samples": len(parts.train),
        "val_samples": len(parts.val),
        "recipe": recipe.to_json(),
        "seed": arguments.seed,
        "best_epoch": state.best_epoch,
        "val_accuracy": best.val_accuracy,
        **asdict(meter.measurement),  # of this call only, if the run was stopped and resumed
        "history": [asdict(r) for r in state.history],
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(record_file, record, RECORD)
    unfinished.unlink(missing_ok=True)
    if arguments.json:
        print_json(record)
    else:
        accuracy = f"{100 * (best.val_accuracy or 0):.2f} % on {len(parts.val):,} held-out samples"
        print(f"{out}: epoch {best.epoch} of {len(state.history)} kept, {accuracy}")
        print(f"energy: {meter.measurement.energy_in_words()}")


def _write_card(blocks: Blocks, held_out: Samples, path: Path) -> str | None:
    """Write the source card next to the checkpoint; None if none can be built, which is noted."""
    from tbft.diagnosis.card_building import MIN_SAMPLES, card_of_samples

    if len(held_out) < MIN_SAMPLES:
        set_aside(str(path))
        return None
    try:
        card_of_samples(blocks, held_out).save(path)
    except DataError as error:  # the weights are written all the same
        show_notes([f"no source card was written: {error}"])
        set_aside(str(path))
        return None
    return str(path)
