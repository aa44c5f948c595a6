"""Accuracy of the front and of the late block, depending on where the model is cut.

Small networks of six kinds, trained on five classes of the JPEG copy of CIFAR-10 at 16 px, get two
corruptions, five other classes under the same labels (ships as planes, trucks as cars), and reversed
labels. For each possible cut, the part before it is tuned for the corruptions, and the part from it up to
the rear for the others. Rules that group layers into blocks can then be judged by the accuracy they lose.

    TBFT_DATA=/folder python benchmarks/cuts.py            # adds what is missing in the record
    TBFT_DATA=/folder python benchmarks/cuts.py --rerun
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from records import parser_of, store
from torch import nn

from tbft.blocks import split
from tbft.blocks.candidates import Candidate
from tbft.blocks.cutting import grouped, propose_cuts
from tbft.blocks.state import values_restored, write_state
from tbft.data import Samples, make_samples, read
from tbft.front_door import tune
from tbft.plan import Plan, find_recipe
from tbft.scenarios import apply_drift
from tbft.verification.evaluation import evaluate_samples

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.architectures import ARCHITECTURES  # noqa: E402

RECORD = ROOT / "benchmarks" / "results" / "cuts.json"
NETWORKS = ("resnet", "mobilenet-v2", "densenet", "vgg", "convnext", "vit")
#: Class of the source -> class with its label in the shifted set.
CLASSES = {"airplane": "ship", "automobile": "truck", "bird": "frog", "cat": "dog", "deer": "horse"}
SHIFTS = {
    "gaussian_noise:3": "front",
    "contrast:4": "front",
    "other classes": "late",
    "labels:reverse": "late",
}
#: From candidates to the cuts.
Rule = Callable[[Sequence[Candidate]], tuple[str, ...]]
TRAINED, TUNED, TESTED, EPOCHS = 4000, 200, 1000, 12


def samples_of(name: str, classes: Sequence[str], count: int) -> Samples:
    """Pictures of five classes, at 16 px, the same number of each."""
    folder = Path(os.environ["TBFT_DATA"]) / "cifar10"
    samples = read(folder / name)
    parts = []
    for label, one in enumerate(classes):
        at = np.flatnonzero(np.asarray(samples.labels) == samples.class_names.index(one))[
            : count // len(classes)
        ]
        pictures = np.asarray(samples.inputs[at], np.float32)
        small = pictures.reshape(len(at), 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)
        parts.append((small, np.full(len(at), label)))
    return make_samples(
        np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]), name=name
    )


def trained(name: str, source: Samples) -> nn.Module:
    """A network after a short training on the source."""
    model = ARCHITECTURES[name].build()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01)
    steps = EPOCHS * (len(source) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    torch.manual_seed(0)
    model.train()
    for _ in range(EPOCHS):
        for at in torch.randperm(len(source)).split(64)[: len(source) // 64]:
            x, y = source.batch(at.numpy())
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def shifted(shift: str, count: int, name: str) -> Samples:
    """Samples after a shift."""
    if shift == "other classes":
        return samples_of(name, list(CLASSES.values()), count)
    return apply_drift(samples_of(name, list(CLASSES), count), shift)


def accuracy(model: nn.Module, samples: Samples) -> float:
    """Accuracy."""
    found = evaluate_samples(model, samples).accuracy
    assert found is not None
    return found


def accuracy_of(model: nn.Module, cuts: Sequence[str], arm: str, train: Samples, test: Samples) -> float:
    """Accuracy after tuning an arm."""
    names = [f"block{k}" for k in range(len(cuts) + 1)]
    blocks = split(model, cuts, names, example=train.batch(slice(0, 2))[0])
    tuned = tune(blocks, Plan(arm, find_recipe("fast"), statistics=None), train)
    with values_restored(model):
        write_state(model, dict(tuned.changed))
        return accuracy(model, test)


def measured(name: str, source: Samples, clean: Samples) -> dict[str, Any]:
    """Accuracy for every cut and every shift."""
    model = trained(name, source)
    proposal = propose_cuts(model, source.batch(slice(0, 2))[0])
    candidates = list(proposal.candidates)
    rear = next(i for i, c in enumerate(candidates) if c.in_rear)
    found: dict[str, Any] = {
        "network": name,
        "source_accuracy": accuracy(model, clean),
        "candidates": [asdict(c) for c in candidates],
        "accuracies": {},
    }
    for shift, side in SHIFTS.items():
        train, test = shifted(shift, TUNED, "train.tar"), shifted(shift, TESTED, "test.tar")
        row = {"": accuracy(model, test)}
        for c in candidates[1:rear]:
            cuts = [c.path, candidates[rear].path]
            row[c.path] = accuracy_of(model, cuts, "block0" if side == "front" else "block1", train, test)
        found["accuracies"][shift] = row
        print(name, shift, {path: round(100 * a, 1) for path, a in row.items()}, flush=True)
    return found


def rule(weigh: Callable[[Candidate], float], levels: float, late: float) -> Rule:
    """Cuts into parts of given weights: the late block counts `late` times as much as the others."""

    def cuts(candidates: Sequence[Candidate]) -> tuple[str, ...]:
        return grouped(candidates, [weigh(c) for c in candidates], 4, levels, late)

    return cuts


def rules() -> dict[str, Rule]:
    """Rules for grouping layers."""
    weights: dict[str, Callable[[Candidate], float]] = {
        "layers": lambda c: float(c.layer_count),
        "FLOPs": lambda c: c.forward_flops or 0.0,
        "parameters": lambda c: float(c.parameter_count),
    }
    return {
        f"{name}, late x {late:g}, {levels:g} a level": rule(weigh, levels, late)
        for name, weigh in weights.items()
        for late in (1.0, 2.0, 3.0)
        for levels in (0.0, 0.02)
    }


def given_away(record: dict[str, Any], cuts: tuple[str, ...]) -> dict[str, float]:
    """Points of accuracy below the best cut, for each shift."""
    lost = {}
    for shift, row in record["accuracies"].items():
        places = {path: a for path, a in row.items() if path}
        chosen = cuts[0] if SHIFTS[shift] == "front" else cuts[-2]
        lost[shift] = 100 * (max(places.values()) - places[chosen])
    return lost


def show(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The table of the rules."""
    table = {}
    for name, group in rules().items():
        lost: dict[str, list[float]] = {}
        for record in records:
            candidates = [Candidate(**c) for c in record["candidates"]]
            for shift, points in given_away(record, group(candidates)).items():
                lost.setdefault(shift, []).append(points)
        table[name] = {shift: round(mean(points), 2) for shift, points in lost.items()}
        table[name]["mean"] = round(mean(table[name].values()), 2)
    print(f"\nPoints below the best cut, mean over {len(records)} networks:")
    print(f"{'rule':30}" + "".join(f"{shift:>18}" for shift in [*SHIFTS, "mean"]))
    for name, row in table.items():
        print(f"{name:30}" + "".join(f"{row[shift]:18.1f}" for shift in [*SHIFTS, "mean"]))
    return table


def main() -> None:
    """Complete the record and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rerun", action="store_true")
    rerun = parser.parse_args().rerun
    torch.set_num_threads(1)
    records = [] if rerun or not RECORD.exists() else json.loads(RECORD.read_text())["records"]
    missing = [name for name in NETWORKS if name not in {record["network"] for record in records}]
    if missing:
        source = samples_of("train.tar", list(CLASSES), TRAINED)
        clean = samples_of("test.tar", list(CLASSES), TESTED)
    for name in missing:
        start = time.process_time()
        record = measured(name, source, clean)
        records.append({**record, "cpu_seconds": round(time.process_time() - start)})
        _write(records)
    _write(records)


def _write(records: Sequence[dict[str, Any]]) -> None:
    sizes = {"trained": TRAINED, "tuned": TUNED, "tested": TESTED, "seeds": 1}
    store(RECORD, **sizes, records=records, points_below_the_best_place=show(records))


if __name__ == "__main__":
    main()
