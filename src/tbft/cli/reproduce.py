"""``tbft reproduce``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json, table, whole_number
from tbft.cli.reporting import write_reproduction
from tbft.errors import TbftError

if TYPE_CHECKING:
    from tbft.reproduce.engines import Outcome
    from tbft.reproduce.runner import Summary

LIST_EXAMPLES = "tbft reproduce list\ntbft reproduce list --json"
RUN_EXAMPLES = """
tbft reproduce run cifar10-c --recipe paper --sizes 10 --seeds 3 --engine pool --workers 2
tbft reproduce run cifar-flip --recipe fast --methods none adabn rear full ours
tbft reproduce run cifar10-c --quick
tbft reproduce run cifar10-c --data CIFAR-10-C --model resnet26-cifar10 --weights base.pth
"""
REPORT_EXAMPLES = "tbft reproduce report\ntbft reproduce report --records results --out report --json"

DEFAULTS = {"recipe": "paper", "engine": "serial"}


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "reproduce", help="the paper's tables, with one command each", allow_abbrev=False
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = command(actions, "list", "list the experiments", LIST_EXAMPLES)
    add_json(listing)
    listing.set_defaults(run=run_list)
    running = command(actions, "run", "run an experiment; run it again to go on after a stop", RUN_EXAMPLES)
    running.add_argument("experiment", metavar="NAME", help="see `tbft reproduce list`")
    _add_scope(running)
    _add_place(running)
    add_json(running)
    running.set_defaults(run=run_run)
    reporting = command(
        actions, "report", "make tables, check the claims, draw the page, from records alone", REPORT_EXAMPLES
    )
    reporting.add_argument("--records", metavar="DIR", default="results", help="default results")
    reporting.add_argument("--out", metavar="DIR", default="report", help="where to write (default report)")
    add_json(reporting)
    reporting.set_defaults(run=run_report)


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", default=DEFAULTS["recipe"], help="of the arms: paper (default) or fast")
    parser.add_argument(
        "--sizes",
        type=whole_number,
        nargs="+",
        metavar="N",
        help="training sizes in %% (default: all it has)",
    )
    parser.add_argument(
        "--seeds",
        type=whole_number,
        metavar="N",
        help="seeds 0 to N-1 (default: the experiment's, 3 of most)",
    )
    parser.add_argument(
        "--corruptions", nargs="+", metavar="NAME", help="of cifar10-c (default: all fifteen)"
    )
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--quick", action="store_true", help="a small version of it, in minutes, in records of its own"
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="in place of the paper's ResNet-26")
    parser.add_argument("--weights", metavar="FILE", help="the base's checkpoint (default: below TBFT_DATA)")
    parser.add_argument("--data", metavar="SET", help="the target's samples (default: below TBFT_DATA)")
    parser.add_argument(
        "--test-data", metavar="SET", help="of noise-motivation, beside --data: what to test on"
    )
    parser.add_argument("--classes", metavar="FILE", help="map of classes for the data, in place of its own")
    parser.add_argument("--card", metavar="FILE", help="the base's source card, for `ours`")
    parser.add_argument("--out", metavar="DIR", default="results", help="folder of records (default results)")
    parser.add_argument("--engine", default=DEFAULTS["engine"], help="serial (default), pool or ray")
    parser.add_argument(
        "--workers", type=whole_number, metavar="N", help="of pool and ray (default: one a core)"
    )


def run_list(arguments: argparse.Namespace) -> None:
    from tbft.reproduce.experiments import EXPERIMENTS

    if arguments.json:
        keys = ("name", "title", "level", "right", "model", "data_name", "seeds")
        print_json({"experiments": [{key: getattr(e, key) for key in keys} for e in EXPERIMENTS.values()]})
        return
    rows = [("experiment", "cells", "what")]
    for e in EXPERIMENTS.values():
        count = len(e.drifts) * len(e.noised) * len(e.sizes) * e.seeds
        rows.append((e.name, str(count or "-"), e.title))
    print(table(rows, right="1"))


def run_run(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from tbft.reproduce.experiments import find_experiment
    from tbft.reproduce.runner import describe, make_settings, run

    if find_experiment(arguments.experiment).is_cost:
        run_costs(arguments)
        return
    settings = make_settings(
        arguments.experiment,
        arguments.recipe,
        model=arguments.model,
        weights=arguments.weights,
        data=arguments.data,
        test_data=arguments.test_data,
        classes=arguments.classes,
        card=arguments.card,
        quick=arguments.quick,
    )
    with tqdm(desc=arguments.experiment, unit="run", leave=False, disable=None) as bar:

        def on_outcome(settled: int, total: int, outcome: Outcome) -> None:
            bar.total = total
            bar.set_postfix_str(describe(outcome.run), refresh=False)
            bar.update(settled - bar.n)
            if outcome.reason:
                print(f"\ntbft: {describe(outcome.run)}: {outcome.reason}", file=sys.stderr)

        summary = run(
            settings,
            arguments.out,
            sizes=arguments.sizes,
            seeds=arguments.seeds,
            corruptions=arguments.corruptions,
            methods=arguments.methods,
            engine=arguments.engine,
            workers=arguments.workers,
            on_outcome=on_outcome,
        )
    _print_summary(summary, arguments.json)


def run_costs(arguments: argparse.Namespace) -> None:
    from tbft.reproduce.costs import run_costs

    scope = ("sizes", "seeds", "corruptions", "methods", "recipe", "engine", "workers")
    place = ("model", "weights", "data", "test_data", "classes", "card")
    for name in (*scope, *place):
        if getattr(arguments, name) not in (None, DEFAULTS.get(name)):
            flag = name.replace("_", "-")
            raise TbftError(f"{arguments.experiment} takes --quick and --out alone: leave --{flag} out")

    def on_model(name: str) -> None:
        print(f"tbft: measuring {name}", file=sys.stderr)

    files = [str(path) for path in run_costs(arguments.out, arguments.quick, on_model)]
    if arguments.json:
        print_json({"files": files})
    else:
        print("\n".join(f"-> {path}" for path in files))


def _print_summary(summary: Summary, as_json: bool) -> None:
    if as_json:
        counts = {"wanted": summary.wanted, "found": summary.found, "done": summary.done}
        print_json({"folder": str(summary.folder), **counts, "failed": len(summary.failed)})
    else:
        print(f"{summary.folder}: {summary.wanted} runs, {summary.found} found, {summary.done} done")
    if summary.failed:
        raise TbftError(f"{len(summary.failed)} of {summary.wanted} runs failed, for the reasons above")


def run_report(arguments: argparse.Namespace) -> None:
    from tbft.reproduce import claims, tables
    from tbft.reproduce.reporting import text_of, write_report

    report = write_report(arguments.records, arguments.out)
    files = [*report.files, write_reproduction(report, arguments.records, arguments.out)]
    if arguments.json:
        shown = {"tables": tables.to_json(report.tables)["tables"], "claims": claims.to_json(report.claims)}
        print_json({"files": [str(path) for path in files], **shown})
        return
    print("\n\n".join([tables.text_of(table) for table in report.tables] + [text_of(report.claims)]))
    print("\n" + "\n".join(f"-> {path}" for path in files))
