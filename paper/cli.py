"""The command line, ``python -m paper``.

Exit statuses are those of ``tbft``: 0 done, 1 a bug of ours, 2 bad input or failed runs, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tbft import TbftError

if TYPE_CHECKING:
    from paper.engines import Outcome
    from paper.runner import Summary

EXAMPLES = {
    "list": "list\nlist --json",
    "run": """\
run cifar10-c --recipe paper --sizes 10 --seeds 3 --engine pool --workers 2
run cifar-flip --recipe fast --methods none adabn rear full ours
run cifar10-c --quick
run cifar10-c --data CIFAR-10-C --model resnet26-cifar10 --weights base.pth
run system-cost""",
    "report": "report\nreport --records results --out report --json",
}
DEFAULTS = {"recipe": "paper", "engine": "serial", "device": "cpu"}
SCOPE = ("recipe", "sizes", "seeds", "corruptions", "methods", "engine", "workers", "device")
SOURCES = ("model", "weights", "data", "test_data", "classes", "card")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m paper",
        description="Run the experiments of the paper, and report what the records say.",
        allow_abbrev=False,
    )
    actions = top.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _action(actions, "list", "list the experiments")
    listing.set_defaults(run=list_experiments)
    running = _action(actions, "run", "run an experiment; to resume a stopped one, run it again")
    running.add_argument("experiment", metavar="NAME", help="see `python -m paper list`")
    _add_scope(running)
    _add_sources(running)
    running.add_argument(
        "--out", metavar="DIR", default="results", help="folder of records (default results)"
    )
    running.set_defaults(run=run_experiment)
    reporting = _action(actions, "report", "make the tables, the claims and the page from the records alone")
    reporting.add_argument("--records", metavar="DIR", default="results", help="default results")
    reporting.add_argument("--out", metavar="DIR", default="report", help="where to write (default report)")
    reporting.set_defaults(run=report)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Before torch is loaded: its threads then sleep while they wait, where they would burn energy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("\npaper: interrupted; run it again to resume", file=sys.stderr)
        return 130
    except TbftError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"paper: cannot use{where}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    lines = "".join(f"  python -m paper {line}\n" for line in EXAMPLES[name].splitlines())
    made: argparse.ArgumentParser = actions.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="print JSON to stdout")
    return made


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", default=DEFAULTS["recipe"], help="recipe of the arms: paper (default) or fast"
    )
    parser.add_argument(
        "--sizes", type=_whole, nargs="+", metavar="N", help="training sizes in %% (default: all)"
    )
    parser.add_argument(
        "--seeds", type=_whole, metavar="N", help="seeds 0 to N-1 (default: the experiment's, mostly 3)"
    )
    parser.add_argument(
        "--corruptions", nargs="+", metavar="NAME", help="corruptions of cifar10-c (default: all fifteen)"
    )
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--quick", action="store_true", help="a small version that takes minutes, with its own records"
    )
    parser.add_argument("--engine", default=DEFAULTS["engine"], help="serial (default) or pool")
    parser.add_argument(
        "--workers", type=_whole, metavar="N", help="processes of the pool (default: one per core)"
    )
    parser.add_argument(
        "--device",
        default=DEFAULTS["device"],
        help="cpu (default), or cuda: the accuracies count then, and the times are left out of all costs",
    )


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="in place of the paper's ResNet-26")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint of the base (default: below TBFT_DATA)")
    parser.add_argument("--data", metavar="SET", help="target samples (default: below TBFT_DATA)")
    parser.add_argument(
        "--test-data", metavar="SET", help="test samples; goes with --data in noise-motivation"
    )
    parser.add_argument("--classes", metavar="FILE", help="class map for the data, in place of its own")
    parser.add_argument("--card", metavar="FILE", help="source card of the base, for `ours`")


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return number


def list_experiments(arguments: argparse.Namespace) -> None:
    from paper.experiments import EXPERIMENTS

    if arguments.json:
        keys = ("name", "title", "level", "paper_best", "model", "data_name", "seeds")
        _print_json({"experiments": [{key: getattr(e, key) for key in keys} for e in EXPERIMENTS.values()]})
        return
    print(f"{'experiment':17} cells  description")
    for e in EXPERIMENTS.values():
        count = len(e.drifts) * len(e.noised) * len(e.sizes) * e.seeds
        print(f"{e.name:17} {count or '-':>5}  {e.title}")


def run_experiment(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from paper.experiments import find_experiment
    from paper.runner import Given, Scope, describe, make_settings, run

    if find_experiment(arguments.experiment).is_cost:
        run_costs(arguments)
        return
    settings = make_settings(
        arguments.experiment,
        arguments.recipe,
        Given(**{name: getattr(arguments, name) for name in SOURCES}),
        arguments.quick,
        arguments.device,
    )
    with tqdm(desc=arguments.experiment, unit="run", leave=False, disable=None) as bar:

        def on_outcome(finished: int, total: int, outcome: Outcome) -> None:
            bar.total = total
            bar.set_postfix_str(describe(outcome.run), refresh=False)
            bar.update(finished - bar.n)
            if outcome.reason:
                print(f"\npaper: {describe(outcome.run)}: {outcome.reason}", file=sys.stderr)

        summary = run(
            settings,
            arguments.out,
            Scope(arguments.sizes, arguments.seeds, arguments.corruptions, arguments.methods),
            engine=arguments.engine,
            workers=arguments.workers,
            on_outcome=on_outcome,
        )
    _print_summary(summary, arguments.json)


def run_costs(arguments: argparse.Namespace) -> None:
    from paper.costs import run_costs

    for name in (*SCOPE, *SOURCES):
        if getattr(arguments, name) not in (None, DEFAULTS.get(name)):
            flag = name.replace("_", "-")
            raise TbftError(f"{arguments.experiment} takes only --quick and --out: leave --{flag} out")

    def on_model(name: str) -> None:
        print(f"paper: measuring {name}", file=sys.stderr)

    files = [str(path) for path in run_costs(arguments.out, arguments.quick, on_model)]
    if arguments.json:
        _print_json({"files": files})
    else:
        print("\n".join(f"-> {path}" for path in files))


def _print_summary(summary: Summary, as_json: bool) -> None:
    if as_json:
        counts = {"wanted": summary.wanted, "found": summary.found, "done": summary.done}
        _print_json({"folder": str(summary.folder), **counts, "failed": len(summary.failed)})
    else:
        print(f"{summary.folder}: {summary.wanted} runs, {summary.found} found, {summary.done} done")
    if summary.failed:
        raise TbftError(f"{len(summary.failed)} of {summary.wanted} runs failed, for the reasons above")


def report(arguments: argparse.Namespace) -> None:
    from paper import claims, tables
    from paper.reporting import write_report

    made = write_report(arguments.records, arguments.out)
    if arguments.json:
        shown = {"tables": tables.to_json(made.tables)["tables"], "claims": claims.to_json(made.claims)}
        _print_json({"files": [str(path) for path in made.files], **shown})
        return
    print("\n\n".join([tables.text_of(table) for table in made.tables] + [claims.text_of(made.claims)]))
    print("\n" + "\n".join(f"-> {path}" for path in made.files))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))
