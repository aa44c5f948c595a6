"""Compare predicted with measured costs, for every arm of several models.

    python benchmarks/cost_prediction.py --json benchmarks/results/cost_prediction.json

A round predicts all arms of a model, once as quickly as choosing does and once with more repeats (as `tbft
cost` does), and then runs each of them; medians over the rounds are compared. Processor seconds are on one
thread; pictures and weights are random, which costs the same. Operations, peak bytes and patch bytes are
compared on runs of two epochs, which also serve as warm-up: torch builds kernels when they are first used,
which no prediction includes. The recipe ``paper`` runs without early stopping, which depends on the data.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from records import parser_of, store, stored_runs
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from tbft.blocks import Blocks
from tbft.choosing.cost import Prediction, plans_of, predict_costs
from tbft.choosing.timing import MIN_SECONDS
from tbft.data import Samples
from tbft.data.placeholder import random_pictures
from tbft.front_door import tune
from tbft.metering.tensor_bytes import TensorBytes
from tbft.models import find_model
from tbft.patches import make_patch
from tbft.plan import Plan, Recipe, find_recipe, replace_plan
from tbft.tuning.prefix_cache import CachePolicy

#: Model, samples, recipe, rounds.
CASES = (
    ("digits", 100, "fast", 5),
    ("digits", 1000, "fast", 5),
    ("digits", 500, "paper", 3),
    ("resnet20-cifar10", 100, "fast", 3),
    ("resnet26-cifar10", 100, "fast", 3),
    ("resnet26-cifar10", 400, "fast", 2),
    ("resnet20-cifar10", 160, "paper", 1),
    ("resnet26-tiny17", 60, "fast", 1),
    ("resnet26-living17", 34, "fast", 1),
)
STEADY_SECONDS = 0.3
WITHIN = 0.15


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="read finished cases from here and store new ones")
    parser.add_argument("--models", nargs="*", default=sorted({case[0] for case in CASES}))
    parser.add_argument("--recount", action="store_true", help="count bytes and operations again, keep times")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = stored_runs(arguments.json)
    done = {(r["model"], r["samples"], r["recipe"]) for r in runs}
    if arguments.recount:
        recount(runs)
        store(arguments.json, summary=summary(runs), runs=runs)
    todo = [case for case in CASES if case[0] in arguments.models and case[:3] not in done]
    for case in tqdm(todo, "cases", leave=False, disable=None):
        runs += one_case(*case)
        if arguments.json:
            store(arguments.json, summary=summary(runs), runs=runs)
    show(runs)


def one_case(model: str, count: int, recipe_name: str, rounds: int) -> list[dict[str, Any]]:
    """Medians of the predicted and of the measured cost, for every arm."""
    blocks, recipe, plans, train, val = prepared(model, count, recipe_name)
    exact = counts(blocks, recipe, plans, train, val)
    found: dict[str, dict[str, list[float]]] = {
        name: {"quick": [], "steady": [], "measured": []} for name in plans
    }
    for _ in range(rounds):
        for kind, seconds in (("quick", MIN_SECONDS), ("steady", STEADY_SECONDS)):
            how = Prediction(val_count=0 if val is None else len(val), min_seconds=seconds)
            start = time.process_time()
            costs = predict_costs(blocks, plans, train, how)
            spent = time.process_time() - start
            for name, cost in costs.items():
                found[name][kind].append(cost.cpu_seconds)
                found[name].setdefault(f"{kind} calibration", []).append(spent)
        for name, plan in plans.items():
            found[name]["measured"].append(measured(blocks, plan, train, val))
    return [
        {
            "model": model,
            "samples": count,
            "recipe": recipe_name,
            "arm": name,
            "rounds": rounds,
            "cpu_seconds": {kind: round(median(values), 5) for kind, values in found[name].items()},
            "cpu_seconds_of_rounds": {k: [round(v, 5) for v in values] for k, values in found[name].items()},
            **exact[name],
        }
        for name in plans
    ]


def prepared(
    model: str, count: int, recipe_name: str
) -> tuple[Blocks, Recipe, dict[str, Plan], Samples, Samples | None]:
    torch.manual_seed(0)
    preset = find_model(model)
    blocks, inputs = preset.split(preset.build()), preset.inputs
    recipe = find_recipe(recipe_name, preset.recipes).replace(patience=None)
    assert inputs.resolution
    assert inputs.channels
    train = random_pictures(count, inputs.resolution, inputs.channels)
    val = (
        random_pictures(count * 3 // 2, inputs.resolution, inputs.channels)
        if recipe.duration.validate
        else None
    )
    plans = plans_of(blocks, recipe)
    if not recipe.duration.validate:
        plans["head, statistics kept"] = Plan(blocks.head, recipe, statistics=1.0)
    return blocks, recipe, plans, train, val


def recount(runs: list[dict[str, Any]]) -> None:
    """Update the counts, which do not depend on the machine's load, after a change."""
    for case in tqdm({(r["model"], r["samples"], r["recipe"]) for r in runs}, leave=False, disable=None):
        exact = counts(*prepared(*case))
        for run in runs:
            if (run["model"], run["samples"], run["recipe"]) == case:
                run.update(exact[run["arm"]])


def measured(blocks: Blocks, plan: Plan, train: Samples, val: Samples | None) -> float:
    start = time.process_time()
    tune(blocks, plan, train, val, cache=CachePolicy(1 << 33))
    return time.process_time() - start


def counts(
    blocks: Blocks, recipe: Recipe, plans: dict[str, Plan], train: Samples, val: Samples | None
) -> dict[str, dict[str, Any]]:
    """Operations and bytes of runs of two epochs, predicted and counted."""
    scaling = recipe.scaling
    short = recipe.replace(epochs=2, middle_epochs=min(2, scaling.middle_epochs), rear_min_steps=0,
                           min_steps=min(1, scaling.min_steps))  # fmt: skip
    brief = {name: replace_plan(plan, recipe=short) for name, plan in plans.items()}
    costs = predict_costs(
        blocks, brief, train, Prediction(val_count=0 if val is None else len(val), counted=True)
    )
    base = {k: v.clone() for k, v in blocks.model.state_dict().items()}
    found = {}
    for name, plan in brief.items():
        with FlopCounterMode(display=False) as flops:
            tune(blocks, plan, train, val)
        with TensorBytes() as held:
            tuned = tune(blocks, plan, train, val)
        recipe_used = {**plan.recipe.to_json(), "source_share": plan.statistics.to_json()}
        patch = make_patch(base, tuned.changed, arm=plan.arm.name, cuts=blocks.cuts, recipe=recipe_used)
        cost = costs[name]
        # The counter does not cover elementwise operations, and the cache is not a tensor.
        steps = 2 * short.training(len(train)).steps_per_epoch(len(train))
        optimizer = steps * cost.step.optimizer_flops if cost.step else 0.0
        found[name] = {
            "flops": {"predicted": (cost.flops or 0.0) - optimizer, "measured": flops.get_total_flops()},
            "patch_bytes": {"predicted": cost.patch_bytes, "measured": len(patch.to_bytes())},
            "peak_bytes": {"predicted": cost.peak_bytes, "measured": held.peak + cost.cache_bytes},
        }
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Share of predictions within 15 % of the measurement, and the worst ones."""
    found = {}
    for quantity, kind in (("cpu_seconds", "steady"), ("cpu_seconds", "quick"), ("flops", "predicted"),
                           ("patch_bytes", "predicted"), ("peak_bytes", "predicted")):  # fmt: skip
        errors = {
            (r["model"], r["samples"], r["recipe"], r["arm"]): r[quantity][kind] / r[quantity]["measured"] - 1
            for r in runs
            if r[quantity][kind] is not None
        }
        worst = max(errors, key=lambda key: abs(errors[key]))
        found[f"{quantity}, {kind}"] = {
            "predictions": len(errors),
            "within_15_percent": round(sum(abs(e) <= WITHIN for e in errors.values()) / len(errors), 4),
            "median_error_percent": round(100 * median(abs(e) for e in errors.values()), 1),
            "worst_error_percent": round(100 * errors[worst], 1),
            "worst": list(worst),
        }
    return found


def show(runs: list[dict[str, Any]]) -> None:
    print(f"{'model':18}{'samples':>8} {'recipe':7}{'arm':22}{'measured s':>11}{'steady %':>9}{'quick %':>9}"
          f"{'flops %':>9}{'patch %':>9}{'peak %':>8}")  # fmt: skip
    for r in runs:
        took = r["cpu_seconds"]["measured"]
        errors = [100 * (r["cpu_seconds"][kind] / took - 1) for kind in ("steady", "quick")]
        for quantity in ("flops", "patch_bytes", "peak_bytes"):
            known = r[quantity]["predicted"]
            errors.append(float("nan") if known is None else 100 * (known / r[quantity]["measured"] - 1))
        shown = "".join(f"{error:+{9 if i < 4 else 8}.1f}" for i, error in enumerate(errors))
        print(f"{r['model']:18}{r['samples']:>8} {r['recipe']:7}{r['arm']:22}{took:11.3f}{shown}")
    for name, row in summary(runs).items():
        print(f"{name}: {100 * row['within_15_percent']:.0f} % of {row['predictions']} within 15 %, median "
              f"error {row['median_error_percent']} %, worst {row['worst_error_percent']:+} %: "
              f"{', '.join(map(str, row['worst']))}")  # fmt: skip


if __name__ == "__main__":
    main()
