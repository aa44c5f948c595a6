"""The cost of tuning a block with tbft, compared with full fine-tuning in the paper's own way, in one run.

    TBFT_DATA=... python benchmarks/tuning_cost.py --json benchmarks/results/tuning_cost.json

The paper's way (Huang et al. 2024, its scripts): every gradient is computed and only the optimizer is
restricted, every BatchNorm tracks, pictures come from a ``DataLoader`` in the default memory layout, the
whole validation part is evaluated after every epoch, and the best epoch is kept: batch size 128, SGD, 10
epochs, patience 5. Ours is the recipe ``fast``, including AdaBN, caching and everything else, without a
validation part. Each run is a process of its own with one thread; both methods are interleaved, and stored
runs are not repeated. Accuracy is of the same held-out test part, 15 % of the set.

Cases: Gaussian noise and contrast, severity 5 (input level, released ResNet-26, JPEG copy of CIFAR-10),
Tiny-17 (feature level, the base that ships), label reversal (output level). ``--long`` adds the other
thirteen corruptions, with the first size and the first seed only. ``--few`` gives both methods 10 labels
per class and nothing else; the paper's way then validates on a fifth of them.

``--rivals`` adds what a user would otherwise run on the same samples: plain full fine-tuning, a new head,
LoRA through `peft` if that is installed, and TENT (see ``rivals.py``), and for comparison AdaBN and the base.

Peak tensor bytes are counted in a short run of each method on the same samples (one epoch), including the
prefix cache, but not model and samples. That run comes first and serves as warm-up: torch builds kernels
and imports modules when they are first used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from own_process import in_own_process
from records import missing, parser_of, store, stored_runs
from rivals import EPOCHS, RIVALS
from tqdm import tqdm

from tbft.blocks import Blocks
from tbft.blocks.precision import gains_from_bfloat16
from tbft.blocks.state import values_restored
from tbft.data import Parts, read, split_samples
from tbft.data.cifar10c import COMMON
from tbft.front_door import tune
from tbft.metering import NO_SENSOR, Meter
from tbft.metering.tensor_bytes import TensorBytes
from tbft.models import find_model
from tbft.plan import arm_for_level, find_recipe, plan_level, replace_plan
from tbft.scenarios import apply_drift, find_class_map
from tbft.tuning.prefix_cache import CachePolicy
from tbft.verification.evaluation import evaluate_samples

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.baselines.tent import tent
from paper.paper_way import paper_way

CASES = {
    "gaussian_noise:5": "input",
    "contrast:5": "input",
    "tiny17": "feature",
    "labels:reverse": "output",
}
LONG = [f"{name}:5" for name in COMMON if f"{name}:5" not in CASES]
SIZES = ("0.1", "0.2", "0.3")
SIDES = ("paper full", "ours", "paper block", "ours in float32")
#: The recipe before the front had steps of its own; only with ``--sides``.
BEFORE = "ours before"
RIVAL_SIDES = (*RIVALS, "tent", "adabn", "base")
FEW = "10/class"
MEASURED = ("wall_seconds", "cpu_seconds", "peak_rss_bytes", "energy_joules", "energy_kind",
            "energy_source", "energy_scope")  # fmt: skip
QUICK = "0.03"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="read finished runs from here and store new ones")
    parser.add_argument("--quick", action="store_true", help="one case per level, 3 %%, one seed: 3 minutes")
    parser.add_argument("--long", action="store_true", help="all fifteen corruptions, first size, first seed")
    parser.add_argument("--rivals", action="store_true", help="also what a user would otherwise run")
    parser.add_argument("--sides", nargs="*", help="only these methods")
    parser.add_argument("--few", action="store_true", help="10 labels per class and nothing else")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", default=SIZES)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES) + LONG)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_run(json.loads(arguments.one), arguments.workers == 1)))
        return
    runs = stored_runs(arguments.json)
    todo = missing(list(cells(arguments)), runs)
    with ThreadPoolExecutor(arguments.workers) as pool:
        for run in tqdm(pool.map(in_own_process, todo), "runs", len(todo), leave=False):
            runs.append(run)
            if arguments.json:
                store(arguments.json, cases=compared(runs), runs=runs)
    show(compared(runs))


def cells(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All requested runs; the methods of one comparison follow each other."""
    sizes = [FEW] if arguments.few else [QUICK] if arguments.quick else arguments.sizes
    cases = ["gaussian_noise:5", "tiny17", "labels:reverse"] if arguments.quick else arguments.cases
    wanted = [(size, seed, case) for size in sizes for seed in range(arguments.seeds) for case in cases]
    if arguments.quick:
        wanted = [cell for cell in wanted if cell[1] == 0]
    if arguments.long:
        wanted += [(SIZES[0], 0, case) for case in LONG]
    for size, seed, case in wanted:
        sides = arguments.sides or [*SIDES[: 2 if arguments.quick else None]]
        for side in [*sides, *(RIVAL_SIDES if arguments.rivals else ())]:
            yield {"case": case, "train": size, "seed": seed, "side": side, "threads": 1}


def one_run(cell: dict[str, Any], alone: bool) -> dict[str, Any]:
    """One method of a comparison; its energy is known only if it runs `alone`."""
    torch.set_num_threads(1)
    blocks, parts = prepared(cell)
    level = CASES.get(cell["case"], "input")
    if cell["side"] in RIVAL_SIDES:
        return rival_run(cell, blocks, parts, alone)
    recipe = find_recipe("fast")
    if cell["side"] == "ours in float32":
        recipe = recipe.replace(precision="float32")
    if cell["side"] == BEFORE:
        recipe = recipe.replace(front=None)
    if cell["side"].startswith("ours"):
        plan = replace_plan(plan_level(level, blocks.names, blocks.head, recipe), seed=cell["seed"])
        arm = plan.arm.name

        def work(epochs: int | None) -> dict[str, torch.Tensor]:
            short = recipe if epochs is None else recipe.replace(epochs=epochs, min_steps=1, rear_min_steps=1)
            tuned = tune(blocks, replace_plan(plan, recipe=short), parts.train, cache=CachePolicy())
            return dict(tuned.changed)
    else:
        arm = "full" if cell["side"] == "paper full" else arm_for_level(level, blocks.names, blocks.head)

        def work(epochs: int | None) -> dict[str, torch.Tensor]:
            paper = find_recipe("paper")
            short = paper if epochs is None else paper.replace(epochs=epochs)
            return paper_way(blocks, arm, short, parts, cell["seed"])

    with TensorBytes() as counted:  # also the warm-up: torch builds kernels and imports modules on first use
        work(1)
    with Meter(None if alone else NO_SENSOR) as meter:
        state = work(None)
    return {
        "level": level,
        "arm": arm,
        "train_samples": len(parts.train),
        "accuracy": accuracy_with(state, blocks, parts),
        **{key: getattr(meter.measurement, key) for key in MEASURED},
        "peak_tensor_bytes": counted.peak + cached_bytes(blocks, arm, parts, cell["side"]),
        "bfloat16": cell["side"] in ("ours", BEFORE) and gains_from_bfloat16(),
    }


def rival_run(cell: dict[str, Any], blocks: Blocks, parts: Parts, alone: bool) -> dict[str, Any]:
    """What a user would otherwise run; for TENT, accuracy is that of its predictions along the way."""
    side, seed = cell["side"], cell["seed"]

    def work(epochs: int) -> dict[str, torch.Tensor] | float:
        if side == "base":
            return {}
        if side == "adabn":
            return dict(tune(blocks, "adabn", parts.train).changed)
        if side == "tent":
            return tent(blocks, parts, seed).accuracy
        return RIVALS[side](blocks.model, parts.train, blocks.head, seed, epochs)

    with TensorBytes() as counted:
        work(1)
    with Meter(None if alone else NO_SENSOR) as meter:
        found = work(EPOCHS)
    return {
        "level": CASES.get(cell["case"], "input"),
        "arm": side,
        "train_samples": len(parts.train),
        "accuracy": found if isinstance(found, float) else accuracy_with(found, blocks, parts),
        **{key: getattr(meter.measurement, key) for key in MEASURED},
        "peak_tensor_bytes": counted.peak,
        "bfloat16": False,
    }


def accuracy_with(state: dict[str, torch.Tensor], blocks: Blocks, parts: Parts) -> float:
    """Accuracy of a tuned model on the test part."""
    with values_restored(blocks.model):
        blocks.model.load_state_dict({**blocks.model.state_dict(), **state})
        accuracy = evaluate_samples(blocks.model, parts.test).accuracy
    assert accuracy is not None
    return accuracy


def cached_bytes(blocks: Blocks, arm: str, parts: Parts, side: str) -> int:
    """Size of the prefix cache, which is not a tensor: size at the cut times the number of samples."""
    block = blocks.block_of(arm)
    if not side.startswith("ours") or block is None or block.index == 0:
        return 0
    from tbft.blocks import cut_before

    finer, at = cut_before(blocks, arm)
    with torch.no_grad():
        crossing = finer.prefix(at).eval()(parts.train.batch(slice(0, 1))[0])
    return len(parts.train) * crossing.numel() * 4


def prepared(cell: dict[str, Any]) -> tuple[Blocks, Parts]:
    data, case = Path(os.environ["TBFT_DATA"]), cell["case"]
    if case == "tiny17":
        preset, weights = find_model("resnet26-tiny17"), None
        class_map = find_class_map(data / "tiny17" / "splits.json")
        samples = read(data / "tiny17" / "target.tar", preset.inputs, class_map=class_map)
    else:
        preset = find_model("resnet26-cifar10")
        samples = read(data / "cifar10" / "test.tar", preset.inputs)
        weights = data / "checkpoints" / "resnet26_cifar10_released.pth"
    model = preset.load(weights)
    few = cell["train"] == FEW
    val_amount = 0 if few else 0.045 if cell["train"] == QUICK else 0.15
    parts = split_samples(samples, cell["train"], val_amount, 0.15, cell["seed"])
    if few and cell["side"].startswith("paper"):  # it needs a validation part: a fifth of the samples
        own = split_samples(parts.train, 0.8, 0.2, 0, cell["seed"])
        parts = replace(parts, train=own.train, val=own.val)
    if case != "tiny17":
        train, test = (apply_drift(part, case, cell["seed"]) for part in (parts.train, parts.test))
        val = apply_drift(parts.val, case, cell["seed"]) if len(parts.val) else parts.val
        parts = replace(parts, train=train, val=val, test=test)
    return preset.split(model), parts


def compared(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each case, size and seed: ours relative to the paper's full fine-tuning."""
    found = {(r["case"], r["train"], r["seed"], r["side"]): r for r in runs}
    cases = []
    for (case, train, seed, side), ours in found.items():
        full = found.get((case, train, seed, "paper full"))
        block = found.get((case, train, seed, "paper block"))
        if side == BEFORE or not side.startswith("ours") or full is None:
            continue
        cases.append(
            {
                "level": ours["level"],
                "case": case,
                "train": train,
                "train_samples": ours["train_samples"],
                "seed": seed,
                "arm": ours["arm"],
                "precision": "bfloat16" if ours["bfloat16"] else "float32",
                "cpu_ratio": ours["cpu_seconds"] / full["cpu_seconds"],
                "wall_ratio": ours["wall_seconds"] / full["wall_seconds"],
                "peak_tensor_ratio": ours["peak_tensor_bytes"] / full["peak_tensor_bytes"],
                "peak_rss_ratio": ours["peak_rss_bytes"] / full["peak_rss_bytes"],
                "accuracy_ours": ours["accuracy"],
                "accuracy_paper_full": full["accuracy"],
                "accuracy_paper_block": None if block is None else block["accuracy"],
                "cpu_ratio_paper_block": None
                if block is None
                else block["cpu_seconds"] / full["cpu_seconds"],
            }
        )
    return cases


def show(cases: list[dict[str, Any]]) -> None:
    """Medians over seeds."""
    print(
        f"{'case':22}{'train':>9}{'precision':>10} {'arm':7}{'cpu %':>7}{'wall %':>7}{'tensors %':>10}"
        f"{'ours':>7}{'full':>7}{'block':>7}  seeds"
    )
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for case in cases:
        groups.setdefault((case["case"], case["train"], case["precision"]), []).append(case)
    for (name, train, precision), rows in groups.items():

        def middle(key: str, rows: list[dict[str, Any]] = rows) -> float:
            values = [100 * row[key] for row in rows if row[key] is not None]
            return median(values) if values else float("nan")

        print(
            f"{name:22}{train:>9}{precision:>10} {rows[0]['arm']:7}{middle('cpu_ratio'):7.1f}"
            f"{middle('wall_ratio'):7.1f}{middle('peak_tensor_ratio'):10.1f}{middle('accuracy_ours'):7.1f}"
            f"{middle('accuracy_paper_full'):7.1f}{middle('accuracy_paper_block'):7.1f}  {len(rows)}"
        )


if __name__ == "__main__":
    main()
