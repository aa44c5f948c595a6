"""Every arm of the paper on drift at the input and output level, with its recipe and released ResNet-26.

    TBFT_DATA=... python benchmarks/paper_arms.py --json benchmarks/results/paper_arms.json

Each run is stored when it ends, and stored runs are not repeated. Arms are interleaved over seeds, so that
changes in the machine's load affect all of them. Data: the JPEG copy of CIFAR-10.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import mean, median, pstdev
from typing import Any

import torch
from records import parser_of, stored_runs, write
from tqdm import tqdm

from tbft.data import read, split_samples
from tbft.models import find_model, load_weights
from tbft.patches import versions
from tbft.pipeline import personalize
from tbft.plan import Plan
from tbft.scenarios import apply_drift

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.provenance import machine

DRIFTS = ("gaussian_noise:5", "labels:reverse")
ARMS = (
    ("none", 0.0),
    ("adabn", 0.0),
    ("adabn", 0.1),
    ("front", 0.0),
    ("layer2", 0.0),
    ("layer3", 0.0),
    ("rear", 0.0),
    ("fc", 0.0),
    ("full", 0.0),
)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="read finished runs from here and store new ones")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    data = Path(os.environ["TBFT_DATA"])
    runs = stored_runs(arguments.json)
    cells = [(s, d, a, share) for s in range(arguments.seeds) for d in DRIFTS for a, share in ARMS]
    done = {(r["seed"], r["drift"], r["arm"], r["source_share"]) for r in runs}

    preset = find_model("resnet26-cifar10")
    model = preset.build()
    load_weights(model, data / "checkpoints" / "resnet26_cifar10_released.pth")
    blocks = preset.split(model)
    samples = read(data / "cifar10" / "test.tar", preset.inputs)
    for seed, drift, arm, share in tqdm([c for c in cells if c not in done], disable=None):
        parts = split_samples(apply_drift(samples, drift, seed), seed=seed)
        plan = Plan(arm, "paper", statistics=share, seed=seed)
        result = personalize(blocks, parts, plan=plan).to_json()
        kept = ("accuracy_before", "accuracy_after", "wall_seconds", "cpu_seconds", "patch_bytes",
                "peak_rss_bytes", "energy_joules", "energy_kind", "energy_source", "energy_scope",
                "best_epoch", "train_samples", "val_samples", "test_samples")  # fmt: skip
        runs.append(
            {"seed": seed, "drift": drift, "arm": arm, "source_share": share, **{k: result[k] for k in kept}}
        )
        if arguments.json:
            _store(runs, arguments.json)
    print(_table(runs))


def _store(runs: list[dict[str, Any]], path: Path) -> None:
    where = {**machine(), "threads": torch.get_num_threads()}
    record = {"data": "JPEG copy of CIFAR-10", "recipe": "paper", "machine": where, "versions": versions()}
    write(path, {**record, "runs": runs})


def _table(runs: list[dict[str, Any]]) -> str:
    """Mean and spread of accuracy; processor time as the median ratio to full of the same seed."""
    lines = []
    for drift in DRIFTS:
        lines.append(f"\n{drift:18} accuracy %     cpu s  cpu/full  patch bytes  n")
        of_drift = [r for r in runs if r["drift"] == drift]
        full = {r["seed"]: r["cpu_seconds"] for r in of_drift if r["arm"] == "full"}
        for arm, share in ARMS:
            rows = [r for r in of_drift if r["arm"] == arm and r["source_share"] == share]
            if not rows:
                continue
            name = arm if not share else f"{arm}, {share:g} source"
            accuracy = [100 * r["accuracy_after"] for r in rows]
            ratios = [r["cpu_seconds"] / full[r["seed"]] for r in rows if r["seed"] in full]
            lines.append(
                f"{name:18} {mean(accuracy):5.1f} +- {pstdev(accuracy):3.1f}"
                f"{median(r['cpu_seconds'] for r in rows):10.1f}"
                + (f"{median(ratios):10.3f}" if ratios else f"{'-':>10}")
                + f"{rows[0]['patch_bytes']:13,}{len(rows):3}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
