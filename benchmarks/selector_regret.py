"""Which option would each selector have chosen, and how much accuracy would that have lost?

    TBFT_DATA=... python benchmarks/selector_regret.py --json benchmarks/results/selector_regret.json
    python benchmarks/selector_regret.py --summarize --json benchmarks/results/selector_regret.json
    python benchmarks/selector_regret.py --calibrate

Uses the records in ``benchmarks/results/selector/``: what every option achieves (``oracle*.jsonl``, made by
``selector_oracle.py``), the evidence that a device would see (``evidence.jsonl``), what selectors that try
options out chose (``tryouts.jsonl``), and what choosing and the paper's full fine-tuning cost
(``paper.jsonl``). The first command adds missing records of the last three kinds; ``--summarize`` only
reads.

Regret is the best option's accuracy on the test part minus that of the chosen one: the best in hindsight,
so noise of the test part counts against every selector. Correct levels are counted on pure drifts,
corruptions from severity 3 on; false actions on separate draws of clean samples; harm is accuracy lost
compared with doing nothing, at 10 or more labels per class. The share of processor time is that of choosing
relative to the paper's full fine-tuning (ten epochs, without validation) on the same samples, both measured
in one run, median over cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gradients import relative_gradients
from records import parser_of
from selector_oracle import key, options, read_records, wanted
from selector_records import cost_of, evidence_of, has_card
from shifts import LABELED, MODELS, Shift, model_blocks, source_parts, suite, train_of
from torch import nn
from tqdm import tqdm

from tbft.blocks import Blocks
from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.choosing.choice import choose
from tbft.choosing.cost import Cost, predict_costs
from tbft.choosing.counting import stage_flops
from tbft.choosing.estimates import estimate
from tbft.choosing.expectations import expectation_row, features
from tbft.choosing.options import options_of
from tbft.data import Parts, Samples, split_samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_samples
from tbft.diagnosis.gathering import gather
from tbft.diagnosis.levels import Diagnosis, diagnose_evidence
from tbft.files import atomic_path
from tbft.front_door import tune
from tbft.plan import Budget, Plan, find_recipe

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.paper_way import paper_way

RECORDS = Path(__file__).parent / "results" / "selector"
EXPECTATIONS = Path(__file__).parents[1] / "src" / "tbft" / "choosing" / "expectations.json"
#: Draws of clean samples, each with its own seed, for false actions.
CLEAN_DRAWS = 40
Record = dict[str, Any]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="write the summary here")
    parser.add_argument("--plot", type=Path, help="plot regret against cost to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/diagnosis.md")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--half", choices=["evaluation", "development"], default="evaluation")
    parser.add_argument("--summarize", action="store_true", help="only read the records")
    parser.add_argument("--calibrate", action="store_true", help="write src/tbft/choosing/expectations.json")
    parser.add_argument("--labeled", type=int, nargs="*", default=LABELED)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--tryouts", action="store_true", help="also run the selectors that try options")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.calibrate:
        calibrate(arguments.records, EXPECTATIONS)
        return
    if not arguments.summarize:
        make_records(arguments)
    summary = summarize(arguments.records, arguments.half)
    print(markdown(summary)) if arguments.markdown else show(summary)
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n")
    if arguments.plot:
        plot(summary, arguments.plot)


# --- records ------------------------------------------------------------------------------------


def make_records(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.records
    cells = list(wanted(arguments.labeled, arguments.models))
    cells += [
        (replace(shift, seed=shift.seed), count, 1000 + draw + (500 if shift.half == "development" else 0))
        for model in arguments.models
        for shift in suite()
        if shift.model == model and shift.levels == "none"
        for count in (10, 2, 100)
        for draw in range(CLEAN_DRAWS)
    ]
    at_rest = [c for c in cells if c[0].drift == "clean" and c[2] < 2 and train_of(*c) is not None]
    timed = {(shift.model, labeled): (shift, labeled, seed) for shift, labeled, seed in at_rest}
    append(folder / "paper.jsonl", list(timed.values()), paper_cost)
    append(folder / "evidence.jsonl", cells, seen)
    if arguments.tryouts:  # expensive, so only for the half that is reported
        trials = [c for c in cells if c[1] == 10 and c[2] < 2 and c[0].half == arguments.half]
        append(folder / "tryouts.jsonl", trials, tried)


def append(
    path: Path, cells: list[tuple[Shift, int, int]], make: Callable[[Shift, int, int], Record | None]
) -> None:
    """Add missing records; each is a line of its own, so a stop loses at most one."""
    done = {key(record) for record in read_records([path] if path.exists() else [])}
    for shift, labeled, seed in tqdm([c for c in cells if (c[0].name, c[1], c[2]) not in done], path.stem):
        record = make(shift, labeled, seed)
        if record is not None:
            head = {"shift": shift.name, "labeled": labeled, "seed": seed, "half": shift.half}
            with path.open("a") as file:
                file.write(json.dumps({**head, "model": shift.model, **record}) + "\n")


CARDS: dict[str, SourceCard | None] = {}
COSTS: dict[tuple[str, int], Record] = {}


def seen(shift: Shift, labeled: int, seed: int) -> Record | None:
    """The evidence, the cost of each option, and the gradients that other selectors use."""
    train, blocks, card = train_of(shift, labeled, seed), model_blocks(shift.model), card_of(shift.model)
    if train is None:
        return None
    found: Record = {"evidence": gather(blocks, train, card).to_json()}
    if seed < 2:
        at = shift.model, labeled
        if at not in COSTS:
            COSTS[at] = {name: asdict(cost) for name, cost in costs_of(blocks, train).items()}
        found["costs"] = COSTS[at]
        found["block_flops"] = stage_flops(blocks, train.batch(slice(0, 1))[0])
        found["gradients"] = gradient_scores(
            blocks, train.subset(slice(0, 128)), clean_gradients(shift.model)
        )
    return found


def card_of(model: str) -> SourceCard | None:
    """None for Living-17, which has too few photos for a card."""
    if model not in CARDS:
        few = model == "resnet26-living17"
        CARDS[model] = None if few else card_of_samples(model_blocks(model), source_parts(model)[0])
    return CARDS[model]


def clean_gradients(model: str) -> dict[str, float]:
    """Relative gradient norms of each block on clean source samples."""
    if card_of(model) is None:
        return {}
    samples = source_parts(model)[0]
    at = np.random.default_rng(0).permutation(len(samples))[:128]
    return relative_gradients(model_blocks(model), samples.subset(at))


def costs_of(blocks: Blocks, samples: Samples) -> dict[str, Cost]:
    recipe, options = find_recipe("fast"), options_of(blocks.names, blocks.head, batch_norm=True)
    return predict_costs(blocks, {o.name: o.plan(recipe, 0, Budget()) for o in options}, samples)


def gradient_scores(
    blocks: Blocks, samples: Samples, clean: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Auto-RGN and Auto-SNR of Lee et al. (2023), section 5, for each block, and RGN over its clean value.

    RGN: norm of the gradient divided by that of the weights. SNR: squared mean divided by the variance of the
    gradient across samples, here across eight batches, averaged over a block's scalars. Importance, as in
    ElasticTrainer: gradient times update, here of one step of gradient descent, so the squared norm.
    """
    model, parts = blocks.model, np.array_split(np.arange(len(samples)), min(8, len(samples)))
    gradients: dict[str, list[torch.Tensor]] = defaultdict(list)
    with modes_restored(model), flags_restored(model):
        model.eval().requires_grad_(True)
        for at in parts:
            x, y = samples.batch(at)
            model.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    gradients[name].append(p.grad.detach().flatten().clone())
    weights = dict(model.named_parameters())
    scores: dict[str, dict[str, float]] = {"auto_rgn": {}, "auto_snr": {}, "clean_rgn": {}, "importance": {}}
    for block in blocks:
        own = [name for name in block.keys if name in gradients]
        stacked = torch.cat([torch.stack(gradients[name]) for name in own], dim=1)
        norm = float(torch.cat([weights[name].detach().flatten() for name in own]).norm())
        average, variance = stacked.mean(0), stacked.var(0)
        rgn = float(average.norm()) / norm
        scores["auto_rgn"][block.name] = rgn
        scores["auto_snr"][block.name] = float((average**2 / (variance + 1e-12)).mean())
        scores["clean_rgn"][block.name] = rgn / clean.get(block.name, 1.0)
        scores["importance"][block.name] = float(average.square().sum())
    return scores


def paper_cost(shift: Shift, labeled: int, seed: int) -> Record | None:
    train, blocks = train_of(shift, labeled, seed), model_blocks(shift.model)
    if train is None:
        return None
    once, few = find_recipe("paper").replace(epochs=1), train.subset(slice(0, 2))
    data = Parts(train, few, few, 0, None)
    paper_way(blocks, "full", once, replace(data, train=train.subset(slice(0, 16))), 0)  # warms up
    card = card_of(shift.model)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(
        3 if len(train) <= 200 else 1
    ):  # interleaved, so that both see the same load of the machine
        sides: dict[str, Callable[[], object]] = {
            "gather": partial(gather, blocks, train, card),
            "gradients": partial(gradient_scores, blocks, train.subset(slice(0, 128)), {}),
            "paper": partial(paper_way, blocks, "full", once, data, 0),
        }
        for name, work in sides.items():
            start = time.process_time()
            work()
            found[name].append(time.process_time() - start)
    return {
        "seconds": 10 * median(found["paper"]),
        "choosing_seconds": median(found["gather"]),
        "gradient_seconds": median(found["gradients"]),
    }


def tried(shift: Shift, labeled: int, seed: int) -> Record | None:
    """Selectors that try every option on folds of the labeled samples."""
    train, blocks = train_of(shift, labeled, seed), model_blocks(shift.model)
    if train is None:
        return None
    found = {}
    for name, select in (("halving", halving), ("cross_validation", cross_validation)):
        start = time.process_time()
        found[name] = {"option": select(blocks, train, seed), "seconds": time.process_time() - start}
    return found


def halving(blocks: Blocks, train: Samples, seed: int) -> str:
    """Every option for one epoch, the better half for two, and so on, judged on a quarter held out."""
    own = split_samples(train, 0.75, 0, 0.25, seed, "none")
    left, epochs = list(options(blocks)), 1
    while len(left) > 1:
        scores = {name: fold_accuracy(blocks, name, own.train, own.test, seed, epochs) for name in left}
        left = sorted(left, key=lambda name: -scores[name])[: -(-len(left) // 2)]
        epochs *= 2
    return left[0]


def cross_validation(blocks: Blocks, train: Samples, seed: int) -> str:
    """Every option in full on both halves, judged on the other."""
    own = split_samples(train, 0.5, 0, 0.5, seed, "none")
    folds = ((own.train, own.test), (own.test, own.train))
    scores = {n: mean(fold_accuracy(blocks, n, a, b, seed, None) for a, b in folds) for n in options(blocks)}
    return max(scores, key=lambda name: scores[name])


def fold_accuracy(
    blocks: Blocks, name: str, train: Samples, held_out: Samples, seed: int, epochs: int | None
) -> float:
    from selector_oracle import accuracy

    arm, share = options(blocks)[name]
    recipe = find_recipe("fast").given(epochs=epochs)
    tuned = tune(blocks, Plan(arm, recipe, statistics=share, seed=seed), train)
    with values_restored(blocks.model):
        blocks.model.load_state_dict({**blocks.model.state_dict(), **tuned.changed})
        return accuracy(blocks, held_out)


# --- selectors: records of a cell -> the chosen option --------------------------------------------


def ours(seen: Record) -> tuple[str, Diagnosis]:
    diagnosis = diagnose_evidence(evidence_of(seen["evidence"]))
    names = model_blocks_names(seen["model"])
    costs = {name: cost_of(cost) for name, cost in seen["costs"].items()}
    options = options_of(*names, batch_norm=True)
    plans = {o.name: o.plan(find_recipe("fast"), 0, Budget()) for o in options}
    choice = choose(diagnosis, estimate(diagnosis, options), plans, costs)
    return choice.option, diagnosis


def model_blocks_names(model: str) -> tuple[tuple[str, ...], str]:
    return ("front", "layer2", "layer3", "rear"), "linear" if "resnet20" in model else "fc"


def by_gradient(score: str) -> Callable[[Record], str]:
    def select(seen: Record) -> str:
        scores = seen["gradients"][score]
        best = max(scores, key=lambda name: scores[name])
        return "head" if best == "rear" else str(best)

    return select


#: Time of ElasticTrainer's training step relative to a full one, as in its authors' example.
ELASTIC_SHARE = 0.5


def elastic(seen: Record) -> str:
    """ElasticTrainer (Huang et al., MobiSys 2023): the most important parts whose training fits the time.

    Importance is gradient times update; time consists of the forward pass, error gradients down to the
    first chosen part, and weight gradients of the chosen parts. The original chooses tensors by dynamic
    programming; with four blocks all sets are compared. The set is represented by its most important part,
    as the options allow.
    """
    importance, flops = seen["gradients"]["importance"], seen["block_flops"]
    names = list(importance)
    fitting = [()] + [
        chosen
        for k in range(1, len(names) + 1)
        for chosen in combinations(range(len(names)), k)
        if sum(flops) + sum(flops[chosen[0] + 1 :]) + sum(flops[i] for i in chosen)
        <= ELASTIC_SHARE * 3 * sum(flops)
    ]
    best = max(fitting, key=lambda chosen: sum(importance[names[i]] for i in chosen))
    if not best:
        return "none"
    name = max((names[i] for i in best), key=lambda name: importance[name])
    return "full" if len(best) == len(names) else "head" if name == "rear" else name


FIXED = {"always front": "front", "always full": "full", "AdaBN only": "adabn", "do nothing": "none"}
GRADIENT = {"Auto-RGN": "auto_rgn", "Auto-SNR": "auto_snr", "RGN over clean": "clean_rgn"}
TRYOUTS = {"successive halving": "halving", "cross-validation": "cross_validation"}


def taken(selector: str, cell: Record) -> tuple[str, float] | None:
    """The option, and the cost of choosing relative to the paper's full fine-tuning; None if not recorded."""
    seen, cost = cell["evidence"], cell["paper"]
    paper = cost["seconds"]
    if selector == "tbft":
        return ours(seen)[0], cost["choosing_seconds"] / paper
    if selector in FIXED:
        return FIXED[selector], 0.0
    if selector == "ElasticTrainer":
        return elastic(seen), cost["gradient_seconds"] / paper
    if selector in GRADIENT:
        return by_gradient(GRADIENT[selector])(seen), cost["gradient_seconds"] / paper
    tryout = cell["tryouts"]
    if tryout is None:
        return None
    found = tryout[TRYOUTS[selector]]
    return found["option"], found["seconds"] / paper


# --- summary ---------------------------------------------------------------------------------------


def cells_of(folder: Path, half: str) -> Iterator[Record]:
    evidence = {key(r): r for r in read_records([folder / "evidence.jsonl"])}
    tryouts = folder / "tryouts.jsonl"
    tries = {key(r): r for r in read_records([tryouts] if tryouts.exists() else [])}
    paper = {(r["model"], r["labeled"]): r for r in read_records([folder / "paper.jsonl"])}
    oracle = {key(r): r for r in read_records(sorted(folder.glob("oracle*.jsonl")))}
    for at, record in oracle.items():
        cost = paper.get((record["model"], record["labeled"]))
        if record["half"] == half and at in evidence:
            yield {**record, "evidence": evidence[at], "tryouts": tries.get(at), "paper": cost}


def summarize(folder: Path, half: str) -> Record:
    cells = [cell for cell in cells_of(folder, half) if cell["paper"] is not None]
    if not cells:
        raise SystemExit(f"{folder} holds no records of the {half} half; run selector_oracle.py first")
    names = ["tbft", *FIXED, *GRADIENT, "ElasticTrainer", *TRYOUTS]
    selectors = {name: judged(name, cells) for name in names}
    seen = read_records([folder / "evidence.jsonl"])
    costs = {(r["model"], r["labeled"]): r["costs"] for r in seen if r["seed"] < 2}
    clean = [r for r in seen if r["half"] == half and r["seed"] >= 1000]
    acted = [ours({**r, "costs": costs[r["model"], r["labeled"]]})[0] != "none" for r in clean]
    selectors["tbft"]["false_actions"] = mean(acted) if acted else None
    selectors["tbft"]["right_level"] = mean(right_levels(cells))
    return {
        "half": half,
        "cells": len(cells),
        "shifts": len({cell["shift"] for cell in cells}),
        "models": sorted({cell["model"] for cell in cells}),
        "clean_draws": len(clean),
        "selectors": {name: row for name, row in selectors.items() if row},
    }


def judged(selector: str, cells: list[Record]) -> Record:
    regrets: dict[str, list[float]] = defaultdict(list)
    harms, shares, on_clean = [], [], []
    for cell in cells:
        found = taken(selector, cell)
        if found is None:
            continue
        accuracy = cell["accuracy"]
        regrets[str(cell["labeled"])].append(100 * (max(accuracy.values()) - accuracy[found[0]]))
        shares.append(found[1])
        if cell["labeled"] >= 10:
            harms.append(100 * (accuracy["none"] - accuracy[found[0]]))
        if cell["levels"] == "none":
            on_clean.append(found[0] != "none")
    if not regrets:
        return {}
    return {
        "cells": len(shares),
        "mean_regret": {k: round(mean(v), 2) for k, v in sorted(regrets.items(), key=by_number)},
        "p95_regret": {
            k: round(float(np.percentile(v, 95)), 2) for k, v in sorted(regrets.items(), key=by_number)
        },
        "worst_regret": {k: round(max(v), 2) for k, v in sorted(regrets.items(), key=by_number)},
        "right_level": None,
        "false_actions": mean(on_clean) if on_clean else None,
        "worst_harm": round(max(harms), 2) if harms else None,
        "cpu_share": round(median(shares), 4),
    }


def by_number(item: tuple[str, Any]) -> int:
    return int(item[0])


def right_levels(cells: list[Record]) -> list[bool]:
    pure = [c for c in cells if c["levels"] in ("input", "feature", "output")]
    pure = [c for c in pure if c["severity"] is None or c["severity"] >= 3]
    return [ours(cell["evidence"])[1].name == cell["levels"] for cell in pure]


def show(summary: Record) -> None:
    print(f"{summary['half']} half: {summary['cells']} cells of {summary['shifts']} shifts")
    counts = sorted({k for row in summary["selectors"].values() for k in row["mean_regret"]}, key=int)
    print(f"{'mean regret at labels a class':28}" + "".join(f"{c:>7}" for c in counts) + "   harm  cost %")
    for name, row in summary["selectors"].items():
        regrets = "".join(f"{row['mean_regret'].get(c, float('nan')):7.2f}" for c in counts)
        harm = float("nan") if row["worst_harm"] is None else row["worst_harm"]
        print(f"{name:28}{regrets}{harm:7.1f}{100 * row['cpu_share']:8.2f}")
    row = summary["selectors"]["tbft"]
    false = "not drawn" if row["false_actions"] is None else f"{100 * row['false_actions']:.1f} %"
    print(f"tbft: right levels {100 * row['right_level']:.1f} %, false actions on clean samples {false}")


def markdown(summary: Record) -> str:
    """The table of docs/diagnosis.md."""
    counts = sorted({k for row in summary["selectors"].values() for k in row["mean_regret"]}, key=int)
    lines = [
        f"| selector | {' | '.join(f'regret, {c} labels' for c in counts)} | worst harm | cost | cells |",
        "|---|" + "---|" * (len(counts) + 3),
    ]
    for name, row in summary["selectors"].items():
        regrets = " | ".join(
            f"{row['mean_regret'][c]:.2f}" if c in row["mean_regret"] else "-" for c in counts
        )
        shown = f"**{name}**" if name == "tbft" else name
        cost = f"{100 * row['cpu_share']:.1f} %"
        lines.append(f"| {shown} | {regrets} | {row['worst_harm']:.1f} | {cost} | {row['cells']} |")
    return "\n".join(lines)


def plot(summary: Record, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    rows = [(n, r["mean_regret"]["10"], r["cpu_share"]) for n, r in summary["selectors"].items()]
    lowest = -np.inf
    for name, regret, share in sorted(rows, key=lambda row: row[1]):
        cost = max(100 * share, 0.03)  # selectors that cost nothing are drawn at the left edge
        axes.scatter(cost, regret, color="C1" if name == "tbft" else "C0", zorder=3)
        lowest = max(regret, lowest + 0.8)  # keeps names apart
        axes.annotate(name, (cost, lowest), xytext=(7, -3), textcoords="offset points")
    axes.set_xlim(0.015, 4000)
    axes.set_xscale("log")
    axes.set_xlabel("processor time of choosing, % of the paper's full fine-tuning")
    axes.set_ylabel("mean regret at 10 labels a class, points")
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)


#: Minimum number of cells per row and number of labels for fitting coefficients; below it, medians are used.
FITTED_FROM = 3
RIDGE = 0.03


def calibrate(folder: Path, path: Path) -> None:
    """Write the expected accuracy of each option, from the development half only.

    It starts with the median share of the lost accuracy that an option recovers; the loss is relative to
    the accuracy before adaptation for ``head`` and the output level, otherwise to the accuracy after AdaBN.
    If there are enough cells, it is corrected by a ridge regression on
    :func:`tbft.choosing.choice.features`.
    """
    known = [cell for cell in cells_of(folder, "development") if has_card(cell["evidence"]["evidence"])]
    cells = [calibration_cell(cell) for cell in known]
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    counts: dict[str, int] = {}
    for row, labeled in sorted({(c["row"], c["labeled"]) for c in cells if c["row"]}):
        own = [c for c in cells if (c["row"], c["labeled"]) == (row, labeled)]
        counts[f"{row}, {labeled} a class"] = len(own)
        for role in own[0]["accuracy"]:
            fitted = [round(float(c), 4) for c in coefficients(row, role, own)]
            rows.setdefault(row, {}).setdefault(role, {})[str(labeled)] = fitted
    content = {
        "made_by": "benchmarks/selector_regret.py --calibrate, on the development half of shifts.py",
        "linear_in": ["1", "accuracy / source", "accuracy after AdaBN / source", "log10 distance"],
        "cells": counts,
        "rows": rows,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {len(cells)} cells, rows {', '.join(rows)}")


def calibration_cell(cell: Record) -> Record:
    """Row, features, and accuracy of each role relative to the source's."""
    evidence = evidence_of(cell["evidence"]["evidence"])
    diagnosis = diagnose_evidence(evidence)
    roles = {o.name: o.role for o in options_of(*model_blocks_names(cell["model"]), batch_norm=True)}
    accuracy = {roles[name]: value / evidence.source_accuracy for name, value in cell["accuracy"].items()}
    row = expectation_row(diagnosis)
    return {"row": row, "labeled": cell["labeled"], "accuracy": accuracy, "features": features(evidence)}


def coefficients(row: str, role: str, cells: list[Record]) -> npt.NDArray[np.float64]:
    rest = role == "head" or "output" in row or row == "random labels"
    x = np.array([cell["features"] for cell in cells])
    y = np.array([cell["accuracy"][role] for cell in cells])
    if row == "moved":  # nothing was lost, and a new head gains beyond the source's accuracy
        gains = [cell["accuracy"][role] - cell["accuracy"]["none"] for cell in cells]
        return np.array([float(np.median(gains)), 1.0, 0.0, 0.0])
    if role in ("none", "adabn"):
        start = np.array([0.0, role == "none", role == "adabn", 0.0])
    else:
        base = np.array([cell["accuracy"]["none" if rest else "adabn"] for cell in cells])
        share = float(np.median((y - base) / np.maximum(1 - base, 0.05)))
        start = np.array([share, (1 - share) * rest, (1 - share) * (not rest), 0.0])
    if len(cells) < FITTED_FROM:
        return start
    return start + np.linalg.solve(x.T @ x + RIDGE * np.diag([0.1, 1, 1, 1]), x.T @ (y - x @ start))


if __name__ == "__main__":
    main()
