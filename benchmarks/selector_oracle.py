"""The accuracy of every option in hindsight: the records by which the selector benchmark is judged.

    TBFT_DATA=... python benchmarks/selector_oracle.py --records benchmarks/results/selector/oracle.jsonl

One line per shift and number of labels: accuracy on the test part and processor seconds of every option,
tuned with the recipe ``fast`` on all labeled samples. Existing lines are not repeated; several processes
can share the work (``--worker 0/2`` and ``--worker 1/2``, one file each, with any name). Accuracy is
computed in the precision of tuning, which changes it by a tenth of a point.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from records import parser_of
from shifts import LABELED, MODELS, Shift, model_blocks, parts_of, suite
from tqdm import tqdm

from tbft.blocks import Blocks
from tbft.blocks.precision import autocast, laid_out
from tbft.blocks.state import evaluating, values_restored
from tbft.data import Samples
from tbft.front_door import tune
from tbft.patches import versions
from tbft.plan import Plan, find_recipe
from tbft.verification.running import batches


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--records", type=Path, required=True, help="JSON lines; more are appended")
    parser.add_argument("--labeled", type=int, nargs="*", default=LABELED, help="labels per class, in order")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--half", choices=["evaluation", "development"], help="of the suite; default: both")
    parser.add_argument("--worker", default="0/1", help="which share of the work: 0/2 or 1/2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    worker, workers = map(int, arguments.worker.split("/"))
    cells = [c for c in wanted(arguments.labeled, arguments.models) if arguments.half in (None, c[0].half)]
    cells = cells[worker::workers]
    done = {key(r) for r in read_records(arguments.records.parent.glob("oracle*.jsonl"))}
    for shift, labeled, seed in tqdm([c for c in cells if (c[0].name, c[1], c[2]) not in done], "cells"):
        record = one_cell(shift, labeled, seed)
        if record is not None:
            with arguments.records.open("a") as file:
                file.write(json.dumps(record) + "\n")


def wanted(labeled: list[int], models: list[str]) -> Iterator[tuple[Shift, int, int]]:
    """Every cell; each half has a seed of its own, so that no split is shared between the two."""
    for model in models:
        for count in labeled:
            for shift in suite():
                if shift.model == model:
                    yield shift, count, 0 if shift.half == "evaluation" else 1


def read_records(paths: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def key(record: dict[str, Any]) -> tuple[str, int, int]:
    return record["shift"], record["labeled"], record["seed"]


def options(blocks: Blocks) -> dict[str, tuple[str, float | None]]:
    """The options: an arm, and the share of the source statistics (None: depends on the sample count)."""
    head, middle = blocks.head, blocks.names[1:-1]
    return {
        "none": ("none", 1.0),
        "adabn": ("adabn", None),
        "front": (blocks.names[0], None),
        **{name: (name, None) for name in middle},
        "head": (head, 1.0),
        "adabn+head": (head, None),
        "front+head": (f"{blocks.names[0]}+{head}", None),
        "full": ("full", None),
    }


def one_cell(shift: Shift, labeled: int, seed: int) -> dict[str, Any] | None:
    parts = parts_of(shift, labeled, seed)
    if parts is None:
        return None
    train, test = parts
    blocks = model_blocks(shift.model)
    accuracies, seconds = {}, {}
    for name, (arm, share) in options(blocks).items():
        plan = Plan(arm, find_recipe("fast"), statistics=share, seed=seed)
        start = time.process_time()
        tuned = tune(blocks, plan, train)
        seconds[name] = round(time.process_time() - start, 3)
        with values_restored(blocks.model):
            blocks.model.load_state_dict({**blocks.model.state_dict(), **tuned.changed})
            accuracies[name] = accuracy(blocks, test)
    return {
        "shift": shift.name,
        "model": shift.model,
        "half": shift.half,
        "levels": shift.levels,
        "severity": shift.severity,
        "labeled": labeled,
        "seed": seed,
        "train_samples": len(train),
        "test_samples": len(test),
        "accuracy": accuracies,
        "cpu_seconds": seconds,
        "versions": versions(),
    }


def accuracy(blocks: Blocks, samples: Samples) -> float:
    right = 0
    for at in batches(len(samples), 64):
        x, y = samples.batch(at)
        with evaluating(blocks.model), autocast("auto"):
            right += int((blocks.model(laid_out(x)).argmax(dim=1) == y).sum())
    return right / len(samples)


if __name__ == "__main__":
    main()
