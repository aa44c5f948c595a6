"""How the cost of tuning a block grows with the number of samples and the size of the model.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json

Processor seconds on one thread, on random pictures, which cost the same. Ours is a whole run of the recipe
``fast``, including cache and statistics. The paper's is ten times one measured epoch of full fine-tuning in
the paper's own way, with its validation part (1.5 times the training part, as in its 10 / 15 / 15 % split,
but at most 3,000), with up to 2,000 samples, and extrapolated from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import parser_of, store, stored_runs
from tqdm import tqdm

from tbft.blocks import split
from tbft.data import Parts, Samples, make_samples
from tbft.front_door import tune
from tbft.metering import Measurement, Meter
from tbft.models.resnet26 import ResNet26
from tbft.plan import Plan, find_recipe, replace_plan
from tbft.tuning.prefix_cache import CachePolicy

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.paper_way import paper_way

SAMPLES = (500, 2_000, 8_000, 50_000)
MODELS = [(1, 32, 500), (4, 32, 500), (9, 32, 500), (1, 128, 64), (4, 128, 64), (9, 128, 64)]
ARMS = {"front": None, "layer3": None, "fc": 1.0}
PAPER_AT_MOST = 2_000


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="read finished runs from here and store new ones")
    parser.add_argument("--most", type=int, default=SAMPLES[-1], help="leave out larger sets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = stored_runs(arguments.json)
    cells = [(4, 32, count) for count in SAMPLES if count <= arguments.most]
    cells += [cell for cell in MODELS if cell not in cells]
    done = {(r["depth"], r["resolution"], r["samples"]) for r in runs}
    for cell in tqdm([cell for cell in cells if cell not in done], "runs", leave=False):
        runs.append(one_run(*cell))
        if arguments.json:
            store(arguments.json, runs=runs)
    show(runs)


def pictures(count: int, resolution: int, seed: int) -> Samples:
    generator = np.random.default_rng(seed)
    inputs = generator.integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)
    return make_samples(inputs, np.arange(count) % 10)


def one_run(depth: int, resolution: int, count: int) -> dict[str, Any]:
    torch.manual_seed(0)
    blocks = split(ResNet26(10, resolution, depth=depth))
    train, few = pictures(count, resolution, 0), pictures(32, resolution, 1)
    fast = find_recipe("fast")
    run: dict[str, Any] = {
        "layers": 6 * depth + 2,
        "depth": depth,
        "resolution": resolution,
        "samples": count,
    }
    for arm, share in ARMS.items():
        plan = Plan(arm, fast, statistics=share)
        tune(blocks, replace_plan(plan, recipe=fast.replace(epochs=1, min_steps=1, rear_min_steps=1)), few)
        cost = measured(partial(tune, blocks, plan, train, cache=CachePolicy(1 << 33)))
        run |= {f"{arm}_cpu_seconds": cost.cpu_seconds, f"{arm}_energy_joules": cost.energy_joules}
        run |= {"energy_kind": cost.energy_kind, "energy_scope": cost.energy_scope}
    if count <= PAPER_AT_MOST:
        val = pictures(min(3_000, count * 3 // 2), resolution, 2)
        once = find_recipe("paper").replace(epochs=1)
        parts = Parts(train, val, val, 0, None)
        cost = measured(lambda: paper_way(blocks, "full", once, parts, 0))
        run["paper_full_cpu_seconds"] = 10 * cost.cpu_seconds
        run["paper_full_energy_joules"] = None if cost.energy_joules is None else 10 * cost.energy_joules
    return run


def measured(work: Callable[[], object]) -> Measurement:
    with Meter() as meter:
        work()
    return meter.measurement


def show(runs: list[dict[str, Any]]) -> None:
    print(
        f"{'layers':>6}{'px':>5}{'samples':>9}"
        + "".join(f"{arm:>10}" for arm in ARMS)
        + f"{'paper full':>12}"
    )
    for run in runs:
        costs = "".join(f"{run[f'{arm}_cpu_seconds']:>9.1f}s" for arm in ARMS)
        full = run.get("paper_full_cpu_seconds")
        ratio = "".join(f" {100 * run[f'{arm}_cpu_seconds'] / full:.1f} %" for arm in ARMS) if full else ""
        shown = f"{full:>11.1f}s" if full else f"{'':>12}"
        print(f"{run['layers']:>6}{run['resolution']:>5}{run['samples']:>9}{costs}{shown} {ratio}")


if __name__ == "__main__":
    main()
