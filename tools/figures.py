"""The tables of `docs/figures.md`, each made from a record alone; `make readme` writes them into the page."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from statistics import fmean, median, stdev
from textwrap import fill
from typing import Any

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]  # for `paper`, and other tools

from readme_picture import COLUMN, PANELS, RECIPE

from paper.records import read_records
from paper.tables import tables_of

ROOT = Path(__file__).parents[1]

#: Case of `benchmarks/tuning_cost.py` -> what it is.
CASES = {
    "gaussian_noise:5": "input: sensor noise",
    "contrast:5": "input: contrast",
    "tiny17": "feature: Tiny-17",
    "labels:reverse": "output: reversed labels",
}
#: Method of `benchmarks/tuning_cost.py --rivals` -> what it is.
RIVALS = {
    "ours": "**`tbft`**, `bfloat16`",
    "ours in float32": "**`tbft`**, `float32`",
    "paper full": "everything, as in the paper",
    "paper block": "the same block, as in the paper",
    "plain full": "everything: AdamW, ten epochs",
    "lora": "LoRA of rank 8 on convolutions, and the head (`peft`)",
    "new head": "a new head: AdamW, ten epochs",
    "tent": "TENT, without labels",
    "adabn": "BatchNorm statistics",
    "base": "nothing",
}
SELECTORS = {
    "tbft": "**tbft**",
    "always front": "always front",
    "always full": "always full",
    "AdaBN only": "AdaBN only",
    "Auto-RGN": "Auto-RGN (Lee et al. 2023)",
    "Auto-SNR": "Auto-SNR",
    "ElasticTrainer": "ElasticTrainer (Huang et al. 2023), by blocks",
}
#: (arm, share of the source) of `benchmarks/paper_arms.py` -> its name in the table.
ARMS = {
    ("none", 0.0): "`none`",
    ("adabn", 0.0): "`adabn`",
    ("adabn", 0.1): "`adabn`, a tenth of the source statistics",
    ("front", 0.0): "`front`",
    ("layer2", 0.0): "`layer2`",
    ("layer3", 0.0): "`layer3`",
    ("rear", 0.0): "`rear` (`bn` and `fc`)",
    ("fc", 0.0): "`fc`, the paper's rear",
    ("full", 0.0): "`full`",
}
DRIFTS = ("gaussian_noise:5", "labels:reverse")


#: Method of `benchmarks/people.py` -> its name in the table.
PEOPLE = {
    "ours": "**`tbft.personalize`**",
    "tent": "TENT, which learns from the test inputs",
    "full as in the paper": "everything, as in the paper",
    "block late": "the late block",
    "new head": "a new head",
    "adabn": "BatchNorm statistics",
    "full as a user": "everything, Adam 1e-3, ten epochs",
}


def record(name: str) -> Any:
    """A record of `benchmarks/results/`."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def families() -> str:
    """The choice on families on which nothing was fitted, from `benchmarks/families_choice.py`."""
    report = record("families_choice")
    arms = {"head": "head", "ridge": "`ridge`", "late+head": "late and head", "full": "`full`"}
    bests = ["best arm of the family", "best by halves", "best in hindsight"]
    worse = ["made worse by the choice", "after acceptance"]
    head = ("family, labels per class", "records", "base", "chosen", "kept", *arms.values(), *bests, *worse)
    rows: list[tuple[str, ...]] = [head]
    means = {key: f"{key} (5 and 10)" for key in report if key.startswith("mean")}
    named = {name.removesuffix(" labels"): row for name, row in report["rows"].items()}
    for name, row in {**named, **{text: report[key] for key, text in means.items()}}.items():
        arm = "" if "best_arm" not in row else f" ({row['best_arm']})"
        best = f"{100 * row['ours'] + row['regret_to_arm_points']:.1f}{arm}"
        figures = [
            f"{100 * row[key]:.1f}" for key in ("always none", "ours", "kept", *(f"always {a}" for a in arms))
        ]
        more = [best, f"{100 * row['best_by_halves']:.1f}", f"{100 * row['best_in_hindsight']:.1f}"]
        harm = [f"{100 * row[key]:.0f} %" for key in ("harmed_share", "harmed_share_kept")]
        count = "" if name in means.values() else f"{row['cells']:.0f}"
        rows.append((name, count, *figures, *more, *harm))
    return _table(rows)


def tables() -> dict[str, str]:
    """The name of each table in the page -> its Markdown."""
    return {
        "cost": cost(),
        "rivals": rivals(),
        "notes": notes(),
        "selectors": selectors(),
        "arms": arms(),
        "paper": paper(),
    }


def cost() -> str:
    """What the recipe `fast` costs against full fine-tuning, by drift and precision."""
    head = ("drift", "arm", "processor time", "tensor memory")
    rows: list[tuple[str, ...]] = [(*head, "tbft", "full", "same block, paper's way")]
    cases = record("tuning_cost_rivals")["cases"]
    for name, words in CASES.items():
        for precision in ("bfloat16", "float32"):
            found = [c for c in cases if c["case"] == name and c["precision"] == precision]
            rows.append((words, f"`{found[0]['arm']}` in `{precision}`", *_cost(found)))
    return _table(rows, left=2)


def _cost(cases: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{100 * median(c['cpu_ratio'] for c in cases):.1f} %"
    yield f"{100 * median(c['peak_tensor_ratio'] for c in cases):.0f} %"
    accuracies = [
        100 * median(c[f"accuracy_{side}"] for c in cases) for side in ("ours", "paper_full", "paper_block")
    ]
    for accuracy in accuracies:
        text = f"{accuracy:.1f}"
        yield f"**{text}**" if accuracy == max(accuracies) else text


def rivals() -> str:
    """What else a user could run on the same samples: accuracy, and share of the paper's full in time."""
    runs = record("tuning_cost_rivals")["runs"]
    full = {(r["case"], r["seed"]): r["cpu_seconds"] for r in runs if r["side"] == "paper full"}
    rows: list[tuple[str, ...]] = [("accuracy (share of the time)", *CASES.values())]
    for side, words in RIVALS.items():
        cells = []
        for case in CASES:
            own = [r for r in runs if (r["case"], r["side"]) == (case, side)]
            share = median(100 * r["cpu_seconds"] / full[case, r["seed"]] for r in own)
            cells.append(f"{100 * median(r['accuracy'] for r in own):.1f} ({share:.1f} %)")
        rows.append((words, *cells))
    return _table(rows)


def notes() -> str:
    """What else is known of the cost of `fast`, one item for each record."""
    grown = record("long_set")["resumed"]["resident_mebibytes_grown"]
    items = [
        f"**All 15 corruptions** of severity 5 (one seed, 1,000 samples), when the front took four epochs: "
        f"{_corruptions()}. It takes about two thirds of that now, for [71.0 %](fast.md).",
        f"**With AMX tiles**, before the front took fewer epochs, `bfloat16` cost {_with_tiles()} "
        "([record](../benchmarks/results/tuning_cost.json), three seeds).",
        "**Other sizes.** From 500 to 50,000 pictures, 8 to 56 layers, and 32 or 128 px, the cost grows "
        f"linearly with the samples. It is {_scaling()} of full fine-tuning "
        "([record](../benchmarks/results/scaling.json)).",
        "**A large set.** With 50,000 pictures and the outputs of the prefix cached on disk, killed and "
        f"resumed, resident memory grew by {grown:.0f} MiB ([record](../benchmarks/results/long_set.json)).",
        "**Block by block**, the paper's table of savings was measured again in [four "
        "ways](../paper/README.md#system-cost).",
    ]
    return "".join(
        fill(f"- {item}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) + "\n"
        for item in items
    )


def _corruptions() -> str:
    cases = record("tuning_cost")["cases"]
    cases = [c for c in cases if c["level"] == "input" and c["train"] == "0.1" and c["seed"] == 0]
    half, single = ([c for c in cases if c["precision"] == p] for p in ("bfloat16", "float32"))
    ours, full, block = (_mean(half, f"accuracy_{side}") for side in ("ours", "paper_full", "paper_block"))
    behind = {c["case"].split(":")[0]: c["accuracy_paper_full"] - c["accuracy_ours"] for c in half}
    behind = {name: lost for name, lost in behind.items() if lost > 0.005}
    names = ", ".join(behind).replace("_", " ")
    return (
        f"{ours:.1f} % for `tbft`, {full:.1f} % for full fine-tuning, and {block:.1f} % for the front in the "
        f"paper's way, at {_mean(half, 'cpu_ratio'):.1f} % of the processor time "
        f"({_mean(single, 'cpu_ratio'):.1f} % in `float32`). On {len(behind)} of the {len(half)} ({names}) "
        f"it is more than half a point below full, by {100 * max(behind.values()):.1f} points at most"
    )


def _mean(cases: list[dict[str, Any]], key: str) -> float:
    """In percent."""
    return 100 * fmean(case[key] for case in cases)


def _with_tiles() -> str:
    cases = [c for c in record("tuning_cost")["cases"] if (c["train"], c["precision"]) == ("0.1", "bfloat16")]

    def share(case: str) -> float:
        return 100 * median(c["cpu_ratio"] for c in cases if c["case"] == case)

    front, middle, head = (share(case) for case in ("gaussian_noise:5", "tiny17", "labels:reverse"))
    return f"{front:.1f} % (`front`), {middle:.1f} % (`layer3`) and {head:.1f} % (`fc`)"


def _scaling() -> str:
    runs = [run for run in record("scaling")["runs"] if "paper_full_cpu_seconds" in run]

    def span(arm: str) -> str:
        shares = [100 * run[f"{arm}_cpu_seconds"] / run["paper_full_cpu_seconds"] for run in runs]
        return f"{min(shares):.1f} to {max(shares):.1f} % (`{arm}`)"

    return f"{span('front')}, {span('layer3')}, and {span('fc')}"


def selectors() -> str:
    """The regret of ways to choose an arm, and what choosing costs."""
    found = record("selector_regret")["selectors"]
    rows: list[tuple[str, ...]] = [
        ("selector", "2 labels per class", "10", "100", "cost of choosing, of full fine-tuning")
    ]
    for name, words in SELECTORS.items():
        regret, share = found[name]["mean_regret"], found[name]["cpu_share"]
        rows.append(
            (
                words,
                *(f"{regret[n]:.1f}" for n in ("2", "10", "100")),
                f"{100 * share:.1f} %" if share else "0",
            )
        )
    ours = found["tbft"]
    return _table(rows) + (
        f"\nThe level is correct on {100 * ours['right_level']:.0f} % of the pure drifts. On clean samples, "
        f"`tbft` acts in {100 * ours['false_actions']:.1f} % of the draws.\n"
    )


def arms() -> str:
    """Every arm with the paper's recipe on a drift of the inputs and on one of the labels."""
    runs = defaultdict(list)
    for run in record("paper_arms")["runs"]:
        runs[run["drift"], (run["arm"], run["source_share"])].append(run)
    full = {(drift, run["seed"]): run for drift in DRIFTS for run in runs[drift, ("full", 0.0)]}
    best = {d: max(_accuracy(runs[d, key]) for key in ARMS) for d in DRIFTS}
    head = (
        "arm",
        "sensor noise: accuracy %",
        "time, of full",
        "reversed labels: accuracy %",
        "time, of full",
    )
    rows: list[tuple[str, ...]] = [(*head, "patch bytes")]
    for key, words in ARMS.items():
        cells = [words]
        for drift in DRIFTS:
            of_arm = runs[drift, key]
            text = f"{_accuracy(of_arm):.1f} ± {100 * stdev(r['accuracy_after'] for r in of_arm):.1f}"
            cells.append(f"**{text}**" if _accuracy(of_arm) == best[drift] else text)
            ratio = median(r["cpu_seconds"] / full[drift, r["seed"]]["cpu_seconds"] for r in of_arm)
            cells.append(f"{100 * ratio:.0f} %")
        rows.append((*cells, f"{runs[DRIFTS[0], key][0]['patch_bytes']:,}"))
    return _table(rows)


def _accuracy(runs: list[dict[str, Any]]) -> float:
    return 100 * fmean(run["accuracy_after"] for run in runs)


def paper(folder: Path = ROOT / "results") -> str:
    """The paper's tables, run again, beside tbft."""
    tables = {t.experiment: t for t in tables_of(read_records(folder)) if t.recipe == RECIPE and not t.quick}
    rows = [
        (
            "drift",
            "before",
            "full",
            "the paper's block",
            "block average",
            "**tbft**",
            "its processor time, of full",
        )
    ]
    for name, (words, block) in PANELS.items():
        found = {m: tables[name].figure(m, COLUMN) for m in ("none", "full", block, "block average", "ours")}
        shown = {m: "" if f is None else f"{100 * f.accuracy:.1f}" for m, f in found.items()}
        ours = found["ours"]
        share = "" if ours is None or ours.cpu_ratio is None else f"{100 * ours.cpu_ratio:.1f} %"
        rows.append(
            (
                words,
                shown["none"],
                shown["full"],
                f"{shown[block]} (`{block}`)",
                shown["block average"],
                f"**{shown['ours']}**",
                share,
            )
        )
    return _table(rows)


def people() -> str:
    """What a few labels of a person are worth, from the table that `benchmarks/people.py --report` writes."""
    lines = (ROOT / "benchmarks" / "results" / "people" / "README.md").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("| 5 a class, all families |"))
    _, *columns = lines[first].strip("| ").split(" | ")
    table = (line.strip("| ").split(" | ") for line in takewhile(bool, lines[first + 2 :]))
    found = {method: dict(zip(columns, cells, strict=True)) for method, *cells in table}
    rows: list[tuple[str, ...]] = [
        ("five labels of each class", "bases", "mean change", "lose more than 1 point", "largest loss")
    ]
    for method, words in PEOPLE.items():
        cells = found[method]
        loss = cells["largest loss"]
        loss = "none" if float(loss) >= 0 else loss.replace("-", "")
        count, gain, harmed = (
            next(cells[name] for name in names if name in cells)
            for names in (("bases", "people"), ("mean gain", "mean change"), ("lose > 1 point", "harmed"))
        )
        rows.append((words, count, gain, harmed, loss))
    return _table(rows)


def _table(rows: Iterable[tuple[str, ...]], left: int = 1) -> str:
    """Markdown of rows, the first of which is the head; all columns but the first ones are numbers."""
    head, *rest = rows
    lines = [head, ("---",) * left + ("---:",) * (len(head) - left), *rest]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for name, text in tables().items():
        print(name, text, sep="\n")
