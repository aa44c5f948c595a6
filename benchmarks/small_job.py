"""Processor time of a whole `personalize` of a small network on a few windows, by stage.

    TBFT_DATA=... python benchmarks/small_job.py --bases FOLDER --json benchmarks/results/small_job.json

Each run is the first adaptation of a fresh process with one thread, after everything that `tbft.personalize`
imports has been imported: so it includes what torch does and imports at first use. A second adaptation in the
same process shows what is left without that. `beside` is everything but tuning and trials. Medians over
the repeats are printed and stored under the name given by `--label`; other labels in the file are kept.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from families import NETWORKS, earliest, person_of, read_people
from own_process import in_own_process
from records import machine, parser_of, write

import tbft

SETS = {"cnn": "watch", "gru": "watch", "transformer": "watch", "mlp": "wisdm"}
#: Stage -> the functions whose time it is, where they are called from.
STAGES = {
    "diagnosis": ["choosing.planning.gather"],
    "costs": ["choosing.planning.predict_costs"],
    "trials": ["choosing.planning.run_trials"],
    "tuning": ["tuning.judging.tune_samples"],
    "verification": ["tuning.judging.run_both", "tuning.judging.accept", "pipeline.evaluate_both"],
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bases", type=Path, required=True, help="folder with the people's base models")
    parser.add_argument("--json", type=Path, help="store medians here")
    parser.add_argument("--label", default="now", help="name of this version of the code")
    parser.add_argument("--labeled", type=int, default=5, help="windows per class (default 5)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(
            json.dumps(one_process(json.loads(arguments.one)["network"], arguments.labeled, arguments.bases))
        )
        return
    rows = []
    for network in arguments.networks:
        runs = [in_own_process({"network": network}) for _ in range(arguments.repeats)]
        rows.append({"network": network, "repeats": len(runs), **medians(runs)})
        print(json.dumps(rows[-1]))
    if arguments.json:
        store(arguments.json, arguments.label, rows)


def one_process(network: str, labeled: int, bases: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    people = read_people(SETS[network])
    person = person_of(people, int(people.person.min()), network, bases)
    train, _ = earliest(person.samples, labeled)
    tbft.personalize  # noqa: B018 - imports what it needs
    runs = {}
    for name in ("first", "second"):
        with ExitStack() as stack:
            seconds = timed_stages(stack)
            start = time.process_time()
            result = tbft.personalize(person.base, train, card=person.card)
            seconds["all"] = time.process_time() - start
        seconds["beside"] = seconds["all"] - seconds["tuning"] - seconds["trials"]
        runs[name] = seconds
    return {"samples": len(train), "arm": result.plan.arm.name, **runs}


def timed_stages(stack: ExitStack) -> dict[str, float]:
    """Stage -> processor seconds, filled while the functions are called; stages of other versions stay 0."""
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds[stage] += time.process_time() - start

        return call

    for stage, names in STAGES.items():
        for name in names:
            owner, _, function = name.rpartition(".")
            module = importlib.import_module(f"tbft.{owner}")
            if hasattr(module, function):
                stack.enter_context(patch.object(module, function, timed(stage, getattr(module, function))))
    return seconds


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = {
        when: {stage: round(median(run[when][stage] for run in runs), 3) for stage in runs[0][when]}
        for when in ("first", "second")
    }
    return {"samples": runs[0]["samples"], "arm": runs[0]["arm"], **seconds}


def store(path: Path, label: str, rows: list[dict[str, Any]]) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    write(path, {**content, "machine": machine(), "unit": "processor seconds", label: rows})


if __name__ == "__main__":
    main()
