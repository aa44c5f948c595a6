"""``tbft personalize`` and ``tbft evaluate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Literal

from tbft.cli.common import (
    Subparsers,
    add_data,
    add_json,
    add_meter,
    add_model,
    add_recipe,
    command,
    load_meter,
    load_recipe,
    load_samples,
    load_trained,
    print_json,
    progress_bar,
    table,
)
from tbft.cli.diagnosing import add_card, choice_text, diagnosis_text, load_card
from tbft.cli.reporting import write_adaptation
from tbft.errors import PlanError

if TYPE_CHECKING:
    from tbft.blocks import Blocks
    from tbft.data import Parts, Samples
    from tbft.pipeline import Personalization
    from tbft.plan import Budget, Plan, Recipe
    from tbft.tuning.prefix_cache import CachePolicy
    from tbft.verification.acceptance import Acceptance

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
        "adapt a model to a few labeled samples and write a patch",
        PERSONALIZE_EXAMPLES,
    )
    add_model(parser)
    add_data(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--level",
        default="auto",
        help="level of the drift: auto (default: diagnosed from the training samples), none, input, feature "
        "or output",
    )
    what.add_argument(
        "--arm",
        help="what to tune: none, adabn, a block, a submodule inside a block, two joined by +, or full",
    )
    add_card(parser)
    parser.add_argument("--explain", action="store_true", help="also print the diagnosis and the choice")
    budget = parser.add_argument_group("budget", "never exceeded, in what is predicted and what is then done")
    budget.add_argument("--budget-seconds", type=float, metavar="S", help="processor seconds on one thread")
    budget.add_argument(
        "--budget-memory", type=float, metavar="MIB", help="of tensors and cache while tuning"
    )
    budget.add_argument(
        "--budget-joules", type=float, metavar="J", help="estimated by the profile of the board"
    )
    parts = parser.add_argument_group(
        "parts", "each a fraction (0.1), a count (500) or a count a class (10/class)"
    )
    parts.add_argument("--train", metavar="N", default="0.1", help="tuned on (default 0.1)")
    parts.add_argument(
        "--val",
        metavar="N",
        help="held out: decides whether the tuned model is kept (default 0.05); with recipes that choose an "
        "epoch by it, it does that instead (default 0.15)",
    )
    parts.add_argument("--test", metavar="N", default="0.15", help="only evaluated on (default 0.15)")
    parts.add_argument(
        "--group-by", metavar="KEY", help="attribute no value of which may lie in two parts; or none"
    )
    how = parser.add_argument_group("recipe")
    add_recipe(how, "fast", "how to train: fast (default) or paper")
    how.add_argument(
        "--source-share",
        type=_share,
        metavar="SHARE",
        help="of the source in AdaBN statistics: 0 to 1, which keeps them, or auto, chosen by the training "
        "labels with forward passes (default: by level and number of samples)",
    )
    how.add_argument(
        "--cache-memory", type=float, metavar="MIB", help="for outputs of the frozen prefix (default 1024)"
    )
    how.add_argument("--cache-folder", metavar="DIR", help="where they go if they do not fit")
    add_meter(parser.add_argument_group("energy", "measured, estimated and labeled so, or none"))
    parser.add_argument("--out", metavar="FILE", help="write the patch here (.safetensors)")
    parser.add_argument(
        "--report", metavar="FILE", help="write a page about it here (.html); needs tbft[report]"
    )
    parser.add_argument("--restart", action="store_true", help="ignore an unfinished run with this --out")
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
    from tbft.files import check_writable
    from tbft.pipeline import personalize

    unfinished = None
    if arguments.out:
        out = check_writable(arguments.out)
        unfinished = out.with_name(out.name + ".resume.pt")
        if arguments.restart:
            unfinished.unlink(missing_ok=True)
    if arguments.report:
        from tbft.report import check_extra

        check_writable(arguments.report, ".html")
        check_extra()
    cache, meter = _cache_policy(arguments), load_meter(arguments)
    preset, model = load_trained(arguments)
    blocks = preset.split(model)
    budget, card = _budget(arguments), load_card(arguments, preset)
    recipe = load_recipe(arguments, preset)
    plan = _plan(arguments, blocks, recipe, budget)
    samples = load_samples(arguments, preset)
    parts = _parts(arguments, samples, recipe)
    with progress_bar("tuning", meter) as on_step:
        result = personalize(
            blocks, parts, plan, preset.name, on_step, cache, unfinished, card, budget, arguments.seed, meter
        )
    undone = result.acceptance is not None and not result.acceptance.accepted
    out_path = None if undone or result.plan.arm == "none" else arguments.out
    if out_path:
        result.patch.save(out_path)
    if unfinished is not None and not result.interrupted:
        unfinished.unlink(missing_ok=True)
    if arguments.report:
        write_adaptation(arguments, result, blocks, preset, samples, out_path)
    if arguments.json:
        print_json({**result.to_json(), "patch_path": out_path})
        return
    if arguments.explain and result.choice is not None:
        print(diagnosis_text(result.choice.diagnosis) + "\n\n" + choice_text(result.choice) + "\n")
    print(_summary(result, blocks, out_path, arguments.report))


def _parts(arguments: argparse.Namespace, samples: Samples, recipe: Recipe) -> Parts:
    """The parts asked for; by default some are held out to judge the tuned model, where there are enough."""
    from tbft.data import split_samples
    from tbft.errors import DataError

    def cut(val: str) -> Parts:
        return split_samples(
            samples, arguments.train, val, arguments.test, arguments.seed, arguments.group_by
        )

    if arguments.val is not None or recipe.validate:
        return cut(arguments.val or "0.15")
    try:
        return cut("0.05")
    except DataError:
        return cut("0")


def _budget(arguments: argparse.Namespace) -> Budget:
    from tbft.plan import Budget

    mebibytes = arguments.budget_memory
    return Budget(
        peak_bytes=None if mebibytes is None else int(mebibytes * 2**20),
        cpu_seconds=arguments.budget_seconds,
        joules=arguments.budget_joules,
    )


def _plan(arguments: argparse.Namespace, blocks: Blocks, recipe: Recipe, budget: Budget) -> Plan | Recipe:
    """The plan that the options name, or the recipe alone where it is to be chosen."""
    from dataclasses import replace

    from tbft.pipeline import plan_level
    from tbft.plan import Plan

    if arguments.arm is None and arguments.level == "auto":
        if arguments.source_share is not None:
            raise PlanError("--source-share goes with --level or --arm; auto chooses its own")
        if recipe.validate:
            raise PlanError(
                f"--level auto is for recipes without validation, not for {recipe.name!r}: give --level"
            )
        return recipe
    if arguments.arm is not None:
        share = 0.0 if arguments.arm == "adabn" else recipe.default_share()
        plan = Plan(arguments.arm, recipe, source_share=share, seed=arguments.seed)
    else:
        plan = plan_level(blocks, arguments.level, recipe, arguments.seed)
    plan = replace(plan, budget=budget)
    blocks.block_of(plan.arm)  # a misspelt arm is told before the data are read
    if arguments.source_share is None:
        return plan
    if plan.arm != "adabn" and not recipe.refresh:
        raise PlanError(
            f"--source-share is for --arm adabn and recipes that refresh, not for {recipe.name!r}"
        )
    return replace(plan, source_share=arguments.source_share)


def _share(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)


def _cache_policy(arguments: argparse.Namespace) -> CachePolicy:
    from pathlib import Path

    from tbft.tuning.prefix_cache import CachePolicy

    mebibytes = 1024.0 if arguments.cache_memory is None else arguments.cache_memory
    if not 0 <= mebibytes < float("inf"):
        raise PlanError(f"--cache-memory has to be a number of MiB from 0, not {mebibytes}")
    folder = Path(arguments.cache_folder) if arguments.cache_folder else None
    return CachePolicy(int(mebibytes * 2**20), folder)


def _summary(result: Personalization, blocks: Blocks, out: str | None, page: str | None) -> str:
    parts, plan, cost = result.parts, result.plan, result.measurement
    gain = 100 * (result.after.accuracy - result.before.accuracy)
    model_bytes = sum(block.size_bytes for block in blocks)
    patch_bytes = len(result.patch.to_bytes())
    peak = "unknown" if cost.peak_rss_bytes is None else f"{cost.peak_rss_bytes / 2**20:,.0f} MiB"
    level = "chosen directly" if plan.level is None else f"for the {plan.level} level"
    if result.choice is not None:
        level = f"chosen for: {result.choice.diagnosis.name}"
    epoch = f", epoch {result.best_epoch} of {len(result.history)} kept" if result.best_epoch else ""
    if result.interrupted:
        epoch += ", stopped by Ctrl-C: run it again to go on"
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
        *([("held out", _verdict(result.acceptance))] if result.acceptance is not None else []),
        ("time", f"{cost.wall_seconds:.1f} s, processor time {cost.cpu_seconds:.1f} s"),
        ("memory", f"{peak} at the peak"),
        ("energy", cost.energy_in_words()),
        ("patch", f"{patch_bytes:,} bytes ({100 * patch_bytes / model_bytes:.1f} % of the model)"),
    ]
    if plan.arm == "none":
        rows[-1] = ("patch", "none needed")
    if out:
        rows[-1] = ("patch", f"{rows[-1][1]} -> {out}")
    if page:
        rows.append(("page", page))
    return table(rows)


def _verdict(acceptance: Acceptance) -> str:
    return str(acceptance) if acceptance.accepted else f"{acceptance}; undone, there is no patch"


def run_evaluate(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.patches import Patch
    from tbft.verification.evaluation import evaluate

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
