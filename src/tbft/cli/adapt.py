"""``tbft personalize`` and ``tbft evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tbft.cli.common import (
    Subparsers,
    add_json,
    add_meter,
    add_model,
    add_recipe,
    command,
    load_base,
    load_meter,
    load_recipe,
    number,
    print_json,
    progress_bar,
    set_aside,
    show_notes,
)
from tbft.cli.data_options import (
    add_data,
    add_parts,
    load_clean,
    load_parts,
    load_samples,
    show_data,
)
from tbft.cli.diagnosing import add_card
from tbft.errors import PlanError, WriteError
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.plan import Budget
    from tbft.tuning.prefix_cache import CachePolicy

PERSONALIZE_EXAMPLES = """
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --level input --out user.safetensors
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --drift labels:reverse --level output
tbft personalize my.models:net --data phone.npz --where subject=7 --arm adabn --train 10/class --json
tbft personalize my.models:net --weights base.pth --data birds --new-classes --out more.safetensors
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
    _add_plan(parser)
    _add_budget(parser)
    add_parts(parser)
    _add_recipe(parser)
    add_meter(parser.add_argument_group("energy", "measured, estimated (and labeled so), or unavailable"))
    parser.add_argument("--out", metavar="FILE", help="write the patch to this file (.safetensors)")
    parser.add_argument(
        "--report", metavar="FILE", help="write a report to this file (.html); needs tbft[report]"
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


def _add_plan(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--level",
        default="auto",
        help="level of the drift: auto (default: diagnosed from the training samples), none, input, feature "
        "or output",
    )
    what.add_argument(
        "--arm",
        help="what to tune: none, adabn, a block, a submodule inside a block, two of these joined by +, "
        "full, or a head computed in closed form: ridge or prototypes",
    )
    what.add_argument(
        "--new-classes",
        action="store_true",
        help="the samples have classes that the model does not know: add rows for them to its head",
    )
    add_card(parser)
    parser.add_argument(
        "--cautious",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="where labels cannot tell whether it helped, keep the base unless a loss of more than a point "
        "is improbable (default); with --no-cautious a positive expected gain is enough",
    )
    parser.add_argument("--explain", action="store_true", help="also print the diagnosis and the choice")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_argument_group("budget", "limits that neither the prediction nor the run exceeds")
    budget.add_argument("--budget-seconds", type=number, metavar="S", help="processor time, on one thread")
    budget.add_argument(
        "--budget-memory", type=number, metavar="MIB", help="memory of tensors and cache during tuning"
    )
    budget.add_argument(
        "--choose-seconds",
        type=number,
        metavar="S",
        help="processor time for trying options on the labels (default: a third of what the likeliest one is "
        "predicted to cost, at least 2; 0: none is tried)",
    )
    budget.add_argument(
        "--worth",
        type=number,
        metavar="POINTS",
        help="points of accuracy that a second of processor time is worth (default: the cheapest option "
        "within half a point of the best is chosen)",
    )
    budget.add_argument(
        "--budget-joules", type=number, metavar="J", help="energy, estimated from the board's profile"
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("recipe")
    add_recipe(how, "fast", "how to train: fast (default) or paper")
    how.add_argument(
        "--source-share",
        type=_share,
        metavar="SHARE",
        help="weight of the source in AdaBN statistics: 0 to 1 (1 keeps the source's), or auto, chosen with "
        "the training labels by forward passes (default: depends on the level and the number of samples)",
    )
    how.add_argument(
        "--cache-memory", type=number, metavar="MIB", help="for outputs of the frozen prefix (default 1024)"
    )
    how.add_argument("--cache-folder", metavar="DIR", help="folder for outputs that do not fit into memory")


#: Status of the result -> exit status, see docs/personalize-json.md.
STATUSES = {"patched": 0, "unchanged": 3, "rejected": 4, "stopped": 5}


def run_personalize(arguments: argparse.Namespace) -> int:
    from tbft.data.folds import MIN_HELD_OUT
    from tbft.files import claim
    from tbft.pipeline import personalize
    from tbft.report.terminal import choice_text, diagnosis_text, summary
    from tbft.request import Request

    if arguments.new_classes:
        from tbft.cli.growing import run_new_classes

        return STATUSES[run_new_classes(arguments)]
    unfinished = None
    if arguments.out:
        out = claim(arguments.out, ".safetensors", [arguments.weights, arguments.card, arguments.data])
        unfinished = out.with_name(out.name + ".resume.pt")
        if arguments.restart:
            unfinished.unlink(missing_ok=True)
    if arguments.report:
        from tbft.report import check_extra

        claim(arguments.report, ".html")
        check_extra()
    cache, meter, base = _cache_policy(arguments), load_meter(arguments), load_base(arguments, load_samples)
    recipe = load_recipe(arguments, base.recipe)
    request = Request(base, arguments.level, arguments.arm, recipe, arguments.source_share, arguments.seed)
    samples = load_samples(arguments, base.inputs)
    if base.card is not None:
        base.card.check_inputs(samples)
    parts = load_parts(arguments, samples, base.inputs, 0 if request.validates else MIN_HELD_OUT)
    data = show_data(samples, parts)
    with _nothing_of_others_on_interrupt(arguments.out), progress_bar("tuning", meter) as on_step:
        result = personalize(
            base,
            parts,
            level=request.level,
            arm=request.arm,
            recipe=recipe,
            statistics=request.statistics,
            budget=_budget(arguments),
            meter=meter,
            cache=cache,
            resume=unfinished,
            cautious=arguments.cautious,
            seed=arguments.seed,
            progress=on_step,
        )
    out_path = arguments.out if result.status == "patched" else None
    if out_path:
        result.patch.save(out_path)
    else:
        set_aside(arguments.out)
    if unfinished is not None and result.stopped != "interrupt":
        unfinished.unlink(missing_ok=True)
    if arguments.report:
        clean = load_clean(arguments, base.inputs) if arguments.drift else None
        try:
            result.save_report(arguments.report, out_path, clean)
        except WriteError as error:  # the patch is there all the same
            print(f"tbft: {error}; everything else is done", file=sys.stderr)
            set_aside(arguments.report)
            arguments.report = None
    values = result.to_json()
    if arguments.json:
        print_json({**values, **data, "patch_path": out_path})
        return STATUSES[result.status]
    if arguments.explain and result.choice is not None:
        choice = values["choice"]
        print(diagnosis_text(choice["diagnosis"]) + "\n\n" + choice_text(choice) + "\n")
    print(summary({**values, "notes": []}, out_path, arguments.report))  # already printed with the data
    return STATUSES[result.status]


@contextmanager
def _nothing_of_others_on_interrupt(out: str | None) -> Iterator[None]:
    """Rename a patch of an earlier run if an interrupt ends this one without a patch of its own."""
    try:
        yield
    except KeyboardInterrupt:
        set_aside(out)
        raise


def _budget(arguments: argparse.Namespace) -> Budget:
    from tbft.plan import Budget

    mebibytes = arguments.budget_memory
    return Budget(
        peak_bytes=None if mebibytes is None else int(mebibytes * 2**20),
        cpu_seconds=arguments.budget_seconds,
        joules=arguments.budget_joules,
        choosing_seconds=arguments.choose_seconds,
        worth=arguments.worth,
    )


def _share(text: str) -> float | str:
    return text if text in ("auto", "keep") else float(text)


def _cache_policy(arguments: argparse.Namespace) -> CachePolicy:
    from pathlib import Path

    from tbft.tuning.prefix_cache import CachePolicy

    mebibytes = 1024.0 if arguments.cache_memory is None else arguments.cache_memory
    if not 0 <= mebibytes < float("inf"):
        raise PlanError(f"--cache-memory has to be 0 or more MiB, not {mebibytes}")
    folder = Path(arguments.cache_folder) if arguments.cache_folder else None
    return CachePolicy(int(mebibytes * 2**20), folder)


def run_evaluate(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from tbft.base import noted_preprocessing
    from tbft.data.prepared import check_prepared
    from tbft.patches import Patch
    from tbft.verification.evaluation import evaluate_samples, warn_if_dependent

    base = load_base(arguments, load_samples)
    inputs, stored = base.inputs, {}
    if arguments.patch:
        patch = Patch.load(arguments.patch)
        patch.apply(base.model)
        if inputs.class_names:
            inputs = replace(inputs, class_names=inputs.class_names + patch.header.new_classes)
        stored = patch.header.preprocessing
        completed = inputs.completed_by(stored, "the patch")
        show_notes(noted_preprocessing(inputs, completed, "the patch"))
        inputs = completed
    samples = load_samples(arguments, inputs)
    if base.card is not None:
        base.card.check_inputs(samples)
    check_prepared(samples, stored, "the patch")
    data = show_data(samples)
    result = evaluate_samples(base.blocks, samples)
    warn_if_dependent(base.blocks, samples)
    if arguments.json:
        print_json({"model": base.name, **data, "patch": arguments.patch, **asdict(result)})
        return
    share = f"{100 * result.score:.2f} % of {result.sample_count:,} samples"
    print(f"{samples.name}: {share}, loss {result.loss:.4f}")
    if arguments.per_class:
        counts = samples.class_counts()
        rows = [("class", "samples", "accuracy %")]
        rows += [
            (c, str(counts[c]), "-" if a is None else f"{100 * a:.1f}")
            for c, a in result.class_accuracies.items()
        ]
        print(table(rows, right="12"))
