"""How well does the choice hold on families on which nothing was fitted?

    TBFT_DATA=... python benchmarks/families_records.py          # makes the records
    python benchmarks/families_choice.py --fit                   # writes src/tbft/choosing/gains.json
    python benchmarks/families_choice.py --report --json benchmarks/results/families_choice.json

The report leaves one family out at a time: the gains expected before anything is tried are fitted on the
others. It is the choice of ``tbft.choosing.estimates`` with all options tried, so it shows the rule and not
the allowance.

Regret is the accuracy of the best option in hindsight minus that of the chosen one. Where the best is taken
for each person, noise of the small test parts counts against every rule. Where it is one arm for a family and
a number of labels, it does so less, but that arm may be wrong for some people.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from families_pictures import PICTURE_MODELS
from families_records import Record, read_records

import tbft
from tbft.choosing import estimates
from tbft.choosing.options import Option
from tbft.choosing.trials import FOLD_SPREAD, STRETCH_SPREAD, Trial
from tbft.files import atomic_path

GAINS = Path(__file__).parents[1] / "src" / "tbft" / "choosing" / "gains.json"
#: How much more a point lost counts than a point gained when gains are fitted; set on the families FIT.
RISK = 2.0
FIT = ("watch-cnn", "wisdm-mlp", "resnet20-cifar10")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", action="store_true", help="fit the expected gains on all families")
    parser.add_argument("--report", action="store_true", help="leave one family out at a time")
    parser.add_argument("--json", type=Path, help="write the report here")
    arguments = parser.parse_args()
    if arguments.fit:
        records = read_records()
        fitted = {"fitted_on": sorted({record["family"] for record in records}), "gains": fit(records)}
        with atomic_path(GAINS) as temporary:
            temporary.write_text(json.dumps(fitted, indent=1) + "\n")
    if arguments.report:
        report = leave_one_out(read_records())
        show(report)
        if arguments.json:
            with atomic_path(arguments.json) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n")


# --- fit and report -----------------------------------------------------------------------------


def fit(records: Sequence[Record]) -> dict[str, dict[str, tuple[float, float]]]:
    """Role -> strength -> mean gain as a share of the base's errors, under heavy and under mild drift.

    Families count alike, and half a family without any gain is added; losses weigh more than gains.
    """
    middle = (estimates.HEAVY + estimates.MILD) / 2
    shares: dict[tuple[str, str, bool], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        base, _ = record["options"]["none"]["1"]
        for option in record["options"].values():
            for strength, (accuracy, _) in outcomes(option):
                gain = accuracy - base if accuracy > base else RISK * (accuracy - base)
                key = option["role"], strength, base >= middle
                shares[key][record["family"]].append(gain / (1 - base + 0.03))
    means = {
        key: sum(float(np.mean(values)) for values in by_family.values()) / (len(by_family) + 0.5)
        for key, by_family in shares.items()
    }
    table: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for role, strength, _ in sorted(means):
        if role != "none":
            both = (round(means.get((role, strength, mild), 0.0), 3) for mild in (False, True))
            table[role][strength] = (next(both), next(both))
    return dict(table)


def outcomes(option: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, str]]]:
    """Strength -> accuracy on test samples, and what was right when held out."""
    return ((key, value) for key, value in option.items() if key not in ("role", "cpu_seconds"))


def chosen(record: Record, table: Mapping[str, Any]) -> float:
    """The accuracy of what the rule chooses if all options are tried."""
    none = record["options"]["none"]["1"]
    base_correct = right(none[1])
    rows, base = np.arange(record["labels"]), estimates.smoothed(base_correct.mean(), record["labels"])
    best, accuracy = base, none[0]
    spread = FOLD_SPREAD if record["family"] in PICTURE_MODELS else STRETCH_SPREAD
    for name, option in record["options"].items():
        if name == "none":
            continue
        for strength, (reached, held_out) in outcomes(option):
            asked = Option(name, "full", tbft.plan.KEEP, option["role"])
            tried = rows[: len(held_out)]  # none where nothing could be held out
            trial = Trial(name, float(strength), tried, right(held_out), base_correct[tried], spread)
            posterior = estimates.posterior_of(asked, trial, base, table)
            if posterior.accuracy > best:
                best, accuracy = posterior.accuracy, reached
    return float(accuracy)


def right(text: str) -> npt.NDArray[np.bool_]:
    return np.frombuffer(text.encode(), np.uint8) == ord("1")


def fixed(record: Record, role: str, strength: str = "1") -> float:
    """The accuracy of always taking the option with this role."""
    for option in record["options"].values():
        if option["role"] == role:
            return float(option[strength][0])
    return float(record["options"]["none"]["1"][0])


def leave_one_out(records: Sequence[Record]) -> dict[str, Any]:
    """For each family and number of labels: accuracies of the rule and of fixed arms, regret and harm."""
    tables = {f: fit([r for r in records if r["family"] != f]) for f in {r["family"] for r in records}}
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cells[f"{record['family']}, {record['cell'].rpartition('@')[2]} labels"].append(record)
    roles = sorted({o["role"] for r in records for o in r["options"].values()})
    rows = {}
    for name, group in sorted(cells.items()):
        ours = np.array([chosen(r, tables[r["family"]]) for r in group])
        base = np.array([fixed(r, "none") for r in group])
        best = np.array([max(v[0] for o in r["options"].values() for _, v in outcomes(o)) for r in group])
        at_full = np.array([max(o["1"][0] for o in r["options"].values()) for r in group])
        rows[name] = {
            "cells": len(group),
            "labels": int(name.split()[-2]),
            "ours": float(ours.mean()),
            "best_in_hindsight": float(best.mean()),
            "best_at_full_strength": float(at_full.mean()),
            "regret_points": float(100 * (at_full - ours).mean()),
            "best_arm": best_arm(group),
            "regret_to_arm_points": float(100 * (fixed_mean(group, best_arm(group)) - ours.mean())),
            "harmed_share": float((ours < base - 0.01).mean()),
            "largest_loss_points": float(100 * max(0.0, (base - ours).max())),
            **{f"always {role}": fixed_mean(group, role) for role in roles},
        }
    return {
        "rows": rows,
        "mean": mean_row(rows.values()),
        "mean of families that nothing was set on": mean_row(
            row for name, row in rows.items() if name.partition(",")[0] not in FIT
        ),
        "records": len(records),
    }


def mean_row(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each figure at 5 and 10 labels, which the target is for."""
    asked = [row for row in rows if row["labels"] in (5, 10)]
    keys = [key for key, value in asked[0].items() if not isinstance(value, str)]
    return {key: float(np.mean([row[key] for row in asked])) for key in keys}


def best_arm(group: Sequence[Record]) -> str:
    """The role that is best in the mean of these records."""
    shared = set.intersection(*({o["role"] for o in r["options"].values()} for r in group))
    return max(sorted(shared), key=lambda role: fixed_mean(group, role))


def fixed_mean(group: Sequence[Record], role: str) -> float:
    """The mean accuracy of always taking the option with a role."""
    return float(np.mean([fixed(record, role) for record in group]))


def show(report: Mapping[str, Any]) -> None:
    """One line for each family and number of labels, and the means."""
    shown = ("ours", "always none", "always head", "always ridge", "always late+head", "always full")
    means = [(name, row) for name, row in report.items() if name.startswith("mean")]
    for name, row in [*report["rows"].items(), *means]:
        figures = "  ".join(f"{key.removeprefix('always ')} {100 * row[key]:.1f}" for key in shown)
        arm = f"{row['regret_to_arm_points']:.1f} ({row.get('best_arm', 'best arm of each')})"
        print(
            f"{name:40} {figures}  hindsight {100 * row['best_at_full_strength']:.1f}  "
            f"regret {row['regret_points']:.1f}, to one arm {arm}  harmed {100 * row['harmed_share']:.0f} %"
        )


if __name__ == "__main__":
    main()
