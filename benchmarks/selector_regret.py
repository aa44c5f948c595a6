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

from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from records import parser_of, write
from selector_calibration import calibrate
from selector_cells import make_records
from selector_choices import FIXED, GRADIENT, TRYOUTS, ours, taken
from selector_oracle import read_records
from selector_records import Record, cells_of
from shifts import LABELED, MODELS

from tbft.files import atomic_path

RECORDS = Path(__file__).parent / "results" / "selector"
EXPECTATIONS = Path(__file__).parents[1] / "src" / "tbft" / "choosing" / "expectations.json"


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
        write(arguments.json, summary)
    if arguments.plot:
        plot(summary, arguments.plot)


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
    print(f"{'mean regret, labels per class':28}" + "".join(f"{c:>7}" for c in counts) + "   harm  cost %")
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
    axes.set_ylabel("mean regret at 10 labels per class, points")
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
