"""``tbft personalize``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tbft.cli import signals
from tbft.cli.common import (
    Subparsers,
    add_json,
    add_meter,
    command,
    load_meter,
    not_shown,
    print_json,
    progress_bar,
    save_patch,
    set_aside,
    show_notes,
)
from tbft.cli.data_options import add_data, load_clean, load_samples, show_data
from tbft.cli.model_options import add_model, load_base, load_recipe, settle_threads
from tbft.cli.parts_options import add_parts, load_parts
from tbft.cli.plan_options import add_budget, add_plan, add_tuning, load_budget, load_cache
from tbft.errors import WriteError
from tbft.text import visible

EXAMPLES = """
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --level input --out user.safetensors
tbft personalize resnet26-cifar10 --weights base.pth --data samples.tar --drift labels:reverse --level output
tbft personalize my.models:net --data phone.npz --where subject=7 --arm adabn --train 10/class --json
tbft personalize my.models:net --weights base.pth --data birds --new-classes --out more.safetensors
"""


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "personalize",
        "adapt a model to a few labeled samples and write a patch",
        EXAMPLES,
    )
    add_model(parser)
    add_data(parser)
    add_plan(parser)
    add_budget(parser)
    add_parts(parser)
    add_tuning(parser)
    add_meter(parser.add_argument_group("energy", "measured, estimated (and labeled so), or unavailable"))
    parser.add_argument("--out", metavar="FILE", help="write the patch to this file (.safetensors)")
    parser.add_argument(
        "--report", metavar="FILE", help="write a report to this file (.html); needs tbft[report]"
    )
    parser.add_argument("--restart", action="store_true", help="ignore an unfinished run with this --out")
    add_json(parser)
    parser.set_defaults(run=run_personalize)


#: Status of the result -> exit status, see docs/personalize-json.md.
STATUSES = {"patched": 0, "unchanged": 3, "rejected": 4, "stopped": 5}


def run_personalize(arguments: argparse.Namespace) -> int:
    from tbft.files import PATCH, REPORT, claim
    from tbft.pipeline import personalize
    from tbft.report.terminal import choice_text, diagnosis_text, summary
    from tbft.request import Request

    if arguments.new_classes:
        from tbft.cli.growing import run_new_classes

        return STATUSES[run_new_classes(arguments)]
    unfinished = None
    if arguments.out:
        out = claim(arguments.out, PATCH, [arguments.weights, arguments.card, arguments.data])
        unfinished = out.with_name(out.name + ".resume.pt")
        if arguments.restart:
            unfinished.unlink(missing_ok=True)
    if arguments.report:
        from tbft.report import check_extra

        claim(arguments.report, REPORT)
        check_extra()
    cache, meter, base = load_cache(arguments), load_meter(arguments), load_base(arguments, load_samples)
    recipe = load_recipe(arguments, base.recipe)
    request = Request(base, arguments.level, arguments.arm, recipe, arguments.source_share, arguments.seed)
    samples = settle_threads(arguments, base.blocks, load_samples(arguments, base.inputs))
    base.checked(samples)  # early; the result has the note
    parts = load_parts(arguments, samples, base.inputs, request.split_by(arguments.group_by, arguments.order))
    data = show_data(samples, parts)
    with _nothing_of_others_on_interrupt(arguments.out), progress_bar("tuning", meter) as on_step:
        result = personalize(
            base,
            parts,
            level=request.level,
            arm=request.arm,
            recipe=recipe,
            statistics=request.statistics,
            budget=load_budget(arguments),
            meter=meter,
            cache=cache,
            resume=unfinished,
            cautious=arguments.cautious,
            seed=arguments.seed,
            progress=on_step,
        )
    out_path = save_patch(result, arguments.out)
    if result.stopped == "interrupt":
        signals.left_behind = _left_behind(result.status, out_path, unfinished)
    elif unfinished is not None:
        unfinished.unlink(missing_ok=True)
    if arguments.report:
        clean = load_clean(arguments, base.inputs) if arguments.drift else None
        try:
            result.save_report(arguments.report, out_path, clean)
        except WriteError as error:  # the patch is written all the same
            print(f"tbft: {error}; everything else is done", file=sys.stderr)
            set_aside(arguments.report)
            arguments.report = None
    values = result.to_json()
    of_run = not_shown(values["notes"])
    if arguments.json:
        show_notes(of_run)
        print_json({**values, **data, "patch_path": out_path})
        return STATUSES[result.status]
    if arguments.explain and result.choice is not None:
        choice = values["choice"]
        print(diagnosis_text(choice["diagnosis"]) + "\n\n" + choice_text(choice) + "\n")
    print(summary({**values, "notes": of_run}, out_path, arguments.report))
    return STATUSES[result.status]


def _left_behind(status: str, out: str | None, unfinished: Path | None) -> str:
    """What an interrupted run leaves."""
    kept = {
        "patched": "what was learned by then is not written, as there is no --out",
        "rejected": "what was learned by then did not help, so there is no patch",
    }.get(status, "nothing was learned by then, so there is no patch")
    if out:
        kept = f"the patch of what was learned by then is {visible(out)}"
    again = unfinished is not None and unfinished.exists()
    return f"{kept}; run it again to resume" if again else kept


@contextmanager
def _nothing_of_others_on_interrupt(out: str | None) -> Iterator[None]:
    """Rename a patch of an earlier run if an interrupt ends this one without a patch of its own."""
    try:
        yield
    except KeyboardInterrupt:
        set_aside(out)
        raise
