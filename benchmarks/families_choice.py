"""How well does the choice hold on families on which nothing was fitted?

    TBFT_DATA=... python benchmarks/families_records.py          # makes the records
    python benchmarks/families_choice.py --fit                   # writes src/tbft/choosing/gains.json
    python benchmarks/families_choice.py --report --json benchmarks/results/families_choice.json

The report leaves one kind of data out at a time, with all networks on it: the gains expected before anything
is tried are fitted on the others whose labels came about alike. It is the choice of
``tbft.choosing.estimates`` with all options tried, so it shows the rule and not the allowance; `kept` is what
remains after acceptance, judged on the same folds. In families called "clean" nothing can be gained; they are
no part of the means.

Regret is the accuracy of the best option in hindsight minus that of the chosen one. The best of a dozen
options on a small test part is in part the luckiest. So there are two more: the best arm of a family and a
number of labels, and the best option of each person found on one half of the test part and measured on the
other, which is a little less than the truth, as half a test part does not always find it.

Tried on the same records and not better: gains of all options conditioned on all trials together, with the
covariance of the other families; probabilities instead of right and wrong outcomes; corrections for what
folds say too much or too little; what was lost against the source instead of what the base gets wrong.
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
from families_synthetic import CLEAN, SYNTHETIC

import tbft
from tbft.choosing import estimates
from tbft.choosing.gains import HEAVY, MILD, TABLE_SPREADS, Gains
from tbft.choosing.options import Option
from tbft.choosing.trials import Trial
from tbft.data.origin import Origin
from tbft.files import atomic_path
from tbft.verification.decision import judge_pairs

GAINS = Path(__file__).parents[1] / "src" / "tbft" / "choosing" / "gains.json"
#: How much more a point lost counts than a point gained when gains are fitted; set on the families FIT.
RISK = 2.0
FIT = ("watch-cnn", "wisdm-mlp", "resnet20-cifar10")
#: How families begin that are of the same kind of data.
DATA = ("phone-and-watch", "phone", "watch", "wisdm", "tables", "tones", "glyphs", "signals")


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
        fitted: dict[str, Any] = {"fitted_on": sorted({record["family"] for record in records})}
        fitted |= {table: fit([r for r in records if table_of(r) == table]) for table in TABLE_SPREADS}
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
    middle = (HEAVY + MILD) / 2
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


def trial_of(record: Record, name: str, strength: str) -> Trial:
    """The trial of an option; on no rows where nothing could be held out."""
    base_correct = right(record["options"]["none"]["1"][1])
    correct = right(record["options"][name][strength][1])
    rows = np.arange(len(correct))
    return Trial(name, float(strength), rows, correct, base_correct[rows], origin_of(record))


def base_of(record: Record) -> float:
    """The base's accuracy as the rule takes it, from the labels."""
    return estimates.smoothed(right(record["options"]["none"]["1"][1]).mean(), record["labels"])


def estimate_of(record: Record, name: str, strength: str, gains: Gains) -> estimates.Estimate:
    """What an option is expected to reach after it was tried."""
    option = Option(name, "full", tbft.plan.KEEP, record["options"][name]["role"])
    return estimates.posterior_of(option, trial_of(record, name, strength), base_of(record), gains)


def chosen(record: Record, gains: Gains) -> tuple[str, str]:
    """The option that the rule chooses if all are tried, and its strength."""
    best, pick = base_of(record), ("none", "1")
    for name, option in record["options"].items():
        for strength, _ in outcomes(option) if name != "none" else ():
            accuracy = estimate_of(record, name, strength, gains).accuracy
            if accuracy > best:
                best, pick = accuracy, (name, strength)
    return pick


def reached(record: Record, option: str, strength: str = "1") -> float:
    """Accuracy on the test part."""
    return float(record["options"][option][strength][0])


def kept(record: Record, gains: Gains, option: str, strength: str) -> float:
    """Accuracy on the test part after acceptance, judged on the folds of the trials."""
    if option == "none" or not record["options"][option][strength][1]:
        return reached(record, "none")
    trial, found = trial_of(record, option, strength), estimate_of(record, option, strength, gains)
    origin, expected = origin_of(record), found.expected
    judged = judge_pairs(trial.base_correct, trial.correct, origin=origin, expected=expected)
    return reached(record, option if judged.accepted else "none", strength if judged.accepted else "1")


def best_of_halves(record: Record) -> float:
    """The accuracy of the option that is best on one half of the test part, on the other half."""
    halves = np.array([option["1"][2:] for option in record["options"].values()])
    return float(np.mean([halves[halves[:, a].argmax(), 1 - a] for a in (0, 1)]))


def origin_of(record: Record) -> Origin:
    """How the labels came about: those of people are from a first stretch of time, of windows nobody says."""
    family = record["family"]
    if family.startswith("signals"):
        return "unknown"
    return "random" if family in (*PICTURE_MODELS, *SYNTHETIC, *CLEAN) else "stretch"


def table_of(record: Record) -> str:
    """Which of the tables of gains it belongs to."""
    if origin_of(record) == "stretch":
        return "stretch"
    return "undrifted" if record["family"] in CLEAN or "/clean#" in record["cell"] else "random"


def data_of(record: Record) -> str:
    """The kind of data of a family, which other networks may share."""
    family: str = record["family"]
    if family in PICTURE_MODELS:
        return family.rpartition("-")[2]
    return next(d for d in DATA if family.startswith(d))


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
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cells[f"{record['family']}, {record['cell'].rpartition('@')[2]} labels"].append(record)
    roles = sorted({o["role"] for r in records for o in r["options"].values()})
    rows = {}
    for name, group in sorted(cells.items()):
        others = [r for r in records if data_of(r) != data_of(group[0])]
        tables = {t: Gains(fit([r for r in others if table_of(r) == t]), s) for t, s in TABLE_SPREADS.items()}
        known = {"labels": int(name.split()[-2]), "origin": origin_of(group[0])}
        rows[name] = {**known, **row_of(group, tables, roles)}
    met = {name: row for name, row in rows.items() if " clean," not in name}
    real = {name: row for name, row in met.items() if name.partition(",")[0] not in SYNTHETIC}
    return {
        "rows": rows,
        "mean": mean_row(met.values()),
        "mean of real data": mean_row(real.values()),
        "mean of real data, a stretch of time": mean_row(
            r for r in real.values() if r["origin"] == "stretch"
        ),
        "mean of synthetic data": mean_row(row for name, row in met.items() if name not in real),
        "mean of families that nothing was set on": mean_row(
            row for name, row in met.items() if name.partition(",")[0] not in FIT
        ),
        "records": len(records),
    }


def row_of(group: Sequence[Record], tables: Mapping[str, Gains], roles: Sequence[str]) -> dict[str, Any]:
    """The figures of one family and number of labels."""
    picks = [(record, tables[table_of(record)]) for record in group]
    picked = [chosen(*pick) for pick in picks]
    ours = np.array([reached(record, *of) for record, of in zip(group, picked, strict=True)])
    after = np.array([kept(*pick, *of) for pick, of in zip(picks, picked, strict=True)])
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
