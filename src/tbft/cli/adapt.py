"""``tbft personalize`` and ``tbft evaluate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import (
    Subparsers,
    add_data,
    add_json,
    add_model,
    add_recipe,
    command,
    load_recipe,
    load_samples,
    load_trained,
    print_json,
    progress_bar,
    table,
)
from tbft.errors import PlanError

if TYPE_CHECKING:
    from tbft.blocks import Blocks
    from tbft.personalize import Personalization
    from tbft.plan import Plan, Recipe

PERSONALIZE_EXAMPLES = """
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --level input --out user.safetensors
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --drift labels:reverse --level output
tbft personalize my.models:net --data phone.npz --where subject=7 --arm adabn --train 10/class --json
"""
EVALUATE_EXAMPLES = """
tbft evaluate resnet26-cifar10 --weights base.pth --data test.tar
tbft evaluate resnet26-cifar10 --weights base.pth --patch user.safetensors --data test.tar --drift contrast:5
"""


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "personalize",
        "adapt a model to a few labelled samples and write a patch",
        PERSONALIZE_EXAMPLES,
    )
    add_model(parser)
    add_data(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--level", help="level of the drift: none, input, feature or output")
    what.add_argument("--arm", help="what to tune: none, adabn, a block, a submodule inside a block, or full")
    parts = parser.add_argument_group(
        "parts", "each a fraction (0.1), a count (500) or a count a class (10/class)"
    )
    parts.add_argument("--train", metavar="N", default="0.1", help="tuned on (default 0.1)")
    parts.add_argument("--val", metavar="N", default="0.15", help="chooses the epoch to keep (default 0.15)")
    parts.add_argument("--test", metavar="N", default="0.15", help="only evaluated on (default 0.15)")
    parts.add_argument(
        "--group-by", metavar="KEY", help="attribute no value of which may lie in two parts; or none"
    )
    how = parser.add_argument_group("recipe")
    add_recipe(how, "paper", "how to train (default paper)")
    how.add_argument(
        "--source-share", type=float, default=0.0, help="of source statistics in adabn (default 0)"
    )
    parser.add_argument("--out", metavar="FILE", help="write the patch here (.safetensors)")
    add_json(parser)
    parser.set_defaults(run=run_personalize)

    parser = command(commands, "evaluate", "measure the accuracy of a model on a set", EVALUATE_EXAMPLES)
    add_model(parser)
    add_data(parser)
    parser.add_argument("--patch", metavar="FILE", help="apply this patch first (in memory)")
    parser.add_argument("--per-class", action="store_true", help="also print the accuracy of each class")
    add_json(parser)
    parser.set_defaults(run=run_evaluate)


def run_personalize(arguments: argparse.Namespace) -> None:
    from tbft.data import split_samples
    from tbft.files import check_writable
    from tbft.personalize import personalize

    if arguments.out:
        check_writable(arguments.out)
    preset, model = load_trained(arguments)
    blocks = preset.split(model)
    plan = _plan(arguments, blocks, load_recipe(arguments, preset))
    samples = load_samples(arguments, preset)
    parts = split_samples(
        samples, arguments.train, arguments.val, arguments.test, arguments.seed, arguments.group_by
    )
    with progress_bar(f"tuning {plan.arm}") as on_step:
        result = personalize(blocks, parts, plan, preset.name, on_step)
    if arguments.out:
        result.patch.save(arguments.out)
    if arguments.json:
        print_json({**result.to_json(), "patch_path": arguments.out})
    else:
        print(_summary(result, blocks, arguments.out))


def _plan(arguments: argparse.Namespace, blocks: Blocks, recipe: Recipe) -> Plan:
    from dataclasses import replace

    from tbft.personalize import plan_level
    from tbft.plan import Plan

    if arguments.level is None:
        plan = Plan(arguments.arm, recipe, seed=arguments.seed)
    else:
        plan = plan_level(blocks, arguments.level, recipe, arguments.seed)
    if arguments.source_share and plan.arm != "adabn":
        raise PlanError(f"--source-share is for --arm adabn; {plan.arm!r} does not use it")
    blocks.block_of(plan.arm)  # a misspelt arm is told before the data are read
    return replace(plan, source_share=arguments.source_share)


def _summary(result: Personalization, blocks: Blocks, out: str | None) -> str:
    parts, plan, cost = result.parts, result.plan, result.measurement
    gain = 100 * (result.after.accuracy - result.before.accuracy)
    model_bytes = sum(block.size_bytes for block in blocks)
    patch_bytes = len(result.patch.to_bytes())
    peak = "unknown" if cost.peak_rss_bytes is None else f"{cost.peak_rss_bytes / 2**20:,.0f} MiB"
    level = "chosen directly" if plan.level is None else f"for the {plan.level} level"
    epoch = f", epoch {result.best_epoch} of {len(result.history)} kept" if result.best_epoch else ""
    rows = [
        ("data", parts.test.name),
        ("samples", f"{len(parts.train):,} train, {len(parts.val):,} val, {len(parts.test):,} test"),
        ("arm", f"{plan.arm}, {level}: {result.tuned_parameters:,} parameters tuned"),
        ("recipe", f"{plan.recipe.name}, seed {plan.seed}{epoch}"),
        (
            "accuracy",
            f"{100 * result.before.accuracy:.1f} % -> {100 * result.after.accuracy:.1f} % "
            f"({gain:+.1f} points) on the {result.after.sample_count:,} held-out test samples",
        ),
        ("time", f"{cost.wall_seconds:.1f} s, processor time {cost.cpu_seconds:.1f} s"),
        ("memory", f"{peak} at the peak"),
        ("energy", "unavailable: nothing measures it here"),
        ("patch", f"{patch_bytes:,} bytes ({100 * patch_bytes / model_bytes:.1f} % of the model)"),
    ]
    if out:
        rows[-1] = ("patch", f"{rows[-1][1]} -> {out}")
    return table(rows)


def run_evaluate(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.evaluate import evaluate
    from tbft.patch import Patch

    preset, model = load_trained(arguments)
    if arguments.patch:
        Patch.load(arguments.patch).apply(model)
    samples = load_samples(arguments, preset)
    result = evaluate(model, samples)
    if arguments.json:
        print_json({"model": preset.name, "data": samples.name, "patch": arguments.patch, **asdict(result)})
        return
    share = f"{100 * result.accuracy:.2f} % of {result.sample_count:,} samples"
    print(f"{samples.name}: {share}, loss {result.loss:.4f}")
    if arguments.per_class:
        counts = samples.class_counts()
        rows = [("class", "samples", "accuracy %")]
        rows += [
            (c, str(counts[c]), "-" if a is None else f"{100 * a:.1f}")
            for c, a in result.class_accuracies.items()
        ]
        print(table(rows, right="12"))
