"""How well does the choice hold on families on which nothing was fitted?

    TBFT_DATA=... python benchmarks/families_records.py          # makes the records
    python benchmarks/families_choice.py --fit                   # writes src/tbft/choosing/gains.json
    python benchmarks/families_choice.py --report --json benchmarks/results/families_choice.json

The report leaves one family out at a time: the gains expected before anything is tried are fitted on the
others. It is the choice of ``tbft.choosing.estimates`` with all options tried, so it shows the rule and not
the allowance; `kept` is what remains after acceptance, judged on the same folds.

Regret is the accuracy of the best option in hindsight minus that of the chosen one. The best of a dozen
options on a small test part is in part the luckiest. So there are two more: the best arm of a family and a
number of labels, and the best option of each person found on one half of the test part and measured on the
other, which is a little less than the truth, as half a test part does not always find it.

Tried on the same records and not better: gains of all options conditioned on all trials together, with the
covariance of the other families (as accurate, and 7 % of the people made worse after acceptance, not 2 %);
probabilities instead of right and wrong outcomes; corrections for what folds say too much or too little.
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
from tbft.verification.acceptance import judge_pairs

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
        base, *_ = record["options"]["none"]["1"]
        for option in record["options"].values():
            for strength, (accuracy, *_) in outcomes(option):
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


def outcomes(option: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Strength -> accuracy on test samples, what was right when held out, and accuracies on test halves."""
    return ((key, value) for key, value in option.items() if key not in ("role", "cpu_seconds"))


def chosen(record: Record, table: Mapping[str, Any]) -> tuple[str, str]:
    """The option that the rule chooses if all are tried, and its strength."""
    base_correct = right(record["options"]["none"]["1"][1])
    rows, base = np.arange(record["labels"]), estimates.smoothed(base_correct.mean(), record["labels"])
    best, pick = base, ("none", "1")
    spread = FOLD_SPREAD if is_of_pictures(record) else STRETCH_SPREAD
    for name, option in record["options"].items():
        for strength, (_, held_out, *_) in outcomes(option) if name != "none" else ():
            asked = Option(name, "full", tbft.plan.KEEP, option["role"])
            tried = rows[: len(held_out)]  # none where nothing could be held out
            trial = Trial(name, float(strength), tried, right(held_out), base_correct[tried], spread)
            posterior = estimates.posterior_of(asked, trial, base, table)
            if posterior.accuracy > best:
                best, pick = posterior.accuracy, (name, strength)
    return pick


def reached(record: Record, option: str, strength: str = "1") -> float:
    """Accuracy on the test part."""
    return float(record["options"][option][strength][0])


def kept(record: Record, option: str, strength: str) -> float:
    """Accuracy on the test part after acceptance, judged on the folds of the trials."""
    base, held_out = (record["options"][o][s][1] for o, s in (("none", "1"), (option, strength)))
    if option == "none" or not held_out:
        return reached(record, "none")
    judged = judge_pairs(right(base), right(held_out), one_stretch=not is_of_pictures(record))
    return reached(record, option if judged.accepted else "none", strength if judged.accepted else "1")


def best_of_halves(record: Record) -> float:
    """The accuracy of the option that is best on one half of the test part, on the other half."""
    halves = np.array([option["1"][2:] for option in record["options"].values()])
    return float(np.mean([halves[halves[:, a].argmax(), 1 - a] for a in (0, 1)]))


def is_of_pictures(record: Record) -> bool:
    return record["family"] in PICTURE_MODELS


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
    rows = {name: row_of(group, tables[group[0]["family"]], roles) for name, group in sorted(cells.items())}
    rows = {name: {"labels": int(name.split()[-2]), **row} for name, row in rows.items()}
    return {
        "rows": rows,
        "mean": mean_row(rows.values()),
        "mean of families that nothing was set on": mean_row(
            row for name, row in rows.items() if name.partition(",")[0] not in FIT
        ),
        "records": len(records),
    }


def row_of(group: Sequence[Record], table: Mapping[str, Any], roles: Sequence[str]) -> dict[str, Any]:
    """The figures of one family and number of labels."""
    picks = [chosen(record, table) for record in group]
    ours, after = (np.array([f(r, *p) for r, p in zip(group, picks, strict=True)]) for f in (reached, kept))
    base = np.array([reached(r, "none") for r in group])
    best = np.array([max(o["1"][0] for o in r["options"].values()) for r in group])
    halves, arm = np.array([best_of_halves(r) for r in group]), best_arm(group)
    return {
        "cells": len(group),
        "ours": float(ours.mean()),
        "kept": float(after.mean()),
        "best_in_hindsight": float(best.mean()),
        "best_by_halves": float(halves.mean()),
        "best_arm": arm,
        "regret_points": float(100 * (best - ours).mean()),
        "regret_by_halves_points": float(100 * (halves - ours).mean()),
        "regret_to_arm_points": float(100 * (fixed_mean(group, arm) - ours.mean())),
        **{f"harmed_share{of}": float((a < base - 0.01).mean()) for of, a in (("", ours), ("_kept", after))},
        **{f"largest_loss_points{of}": float(100 * max(0.0, (base - a).max()))
           for of, a in (("", ours), ("_kept", after))},
        **{f"always {role}": fixed_mean(group, role) for role in roles},
    }  # fmt: skip


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
            f"{name:40} {figures}  hindsight {100 * row['best_in_hindsight']:.1f}  "
            f"regret {row['regret_points']:.1f}, by halves {row['regret_by_halves_points']:.1f}, "
            f"to one arm {arm}  harmed {100 * row['harmed_share']:.0f} %  kept {100 * row['kept']:.1f} "
            f"({100 * row['harmed_share_kept']:.0f} %)"
        )


if __name__ == "__main__":
    main()
