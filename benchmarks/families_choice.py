"""How well does the choice hold on families on which nothing was fitted?

    TBFT_DATA=... python benchmarks/families_choice.py --records watch cnn 5
    python benchmarks/families_choice.py --fit                   # writes src/tbft/choosing/gains.json
    python benchmarks/families_choice.py --report --json benchmarks/results/families_choice.json

A record holds, for a person or a drift and a number of labels per class, what each option reaches on test
samples and whether it is right on each label when that is held out, at several strengths. The report leaves
one family out at a time: the gains expected before anything is tried are fitted on the others. It is the
choice of ``tbft.choosing.estimates`` with all options tried, so it shows the rule and not the allowance.

Regret is the accuracy of the best option in hindsight minus that of the chosen one, so that noise of the test
part counts against every rule.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from families import NETWORKS, earliest, person_of, read_people
from shifts import model_blocks, parts_of, source_parts, suite

import tbft
from tbft.blocks import Blocks
from tbft.blocks.state import batch_norms
from tbft.choosing import estimates
from tbft.choosing.options import Option, options_of
from tbft.choosing.trials import (
    FOLD_SPREAD,
    STRETCH_SPREAD,
    Trial,
    prototypes_of,
    strengths_of,
)
from tbft.data import Samples
from tbft.data.folds import folds_of
from tbft.data.manner import SplitBy, find_manner
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_samples
from tbft.errors import TbftError
from tbft.files import atomic_path
from tbft.plan import Budget, find_recipe
from tbft.tuning.closed_form import linear_head
from tbft.tuning.execution import blended, tune_samples
from tbft.tuning.options import Tuning
from tbft.verification.comparison import changed_to
from tbft.verification.evaluation import predict

RESULTS = Path(__file__).parent / "results"
RECORDS = RESULTS / "families"
GAINS = Path(__file__).parents[1] / "src" / "tbft" / "choosing" / "gains.json"
FOLDS = 3
#: Shifts of the CIFAR models, all of the development half.
DRIFTS = ("gaussian_noise:5", "contrast:5", "labels:reverse", "fog:5", "labels:swap:0.4", "brightness:3",
          "clean", "glass_blur:5", "labels:permute", "defocus_blur:3")  # fmt: skip
#: How much more a point lost counts than a point gained when gains are fitted.
RISK = 1.0
#: Families with labels drawn at random; those of the others are from the first stretch of time.
PICTURES = ("cifar", "tiny17")
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", nargs=3, metavar=("SET", "NETWORK", "LABELS"), help="add records")
    parser.add_argument("--limit", type=int, default=10, help="number of people or drifts (default 10)")
    parser.add_argument("--bases", type=Path, default=Path("build/people"), help="folder of base models")
    parser.add_argument("--fit", action="store_true", help="fit the expected gains on all families")
    parser.add_argument("--report", action="store_true", help="leave one family out at a time")
    parser.add_argument("--json", type=Path, help="write the report here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.records:
        name, network, labels = arguments.records
        cells = people_cells if network in NETWORKS else picture_cells
        make_records(cells(name, network, int(labels), arguments), f"{name}-{network}")
    if arguments.fit:
        table = fit(read_records())
        with atomic_path(GAINS) as temporary:
            temporary.write_text(
                json.dumps({"fitted_on": sorted(families()), "gains": table}, indent=1) + "\n"
            )
    if arguments.report:
        report = leave_one_out(read_records())
        show(report)
        if arguments.json:
            with atomic_path(arguments.json) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n")


# --- records ------------------------------------------------------------------------------------

Cell = tuple[str, Callable[[], tuple[Blocks, SourceCard, Samples, Samples] | None]]


def people_cells(name: str, network: str, labels: int, arguments: argparse.Namespace) -> Iterator[Cell]:
    """A left-out person with labels from the first stretch of time, tested on all that is later."""
    people = read_people(name)
    for number in np.unique(people.person)[: arguments.limit].tolist():

        def make(number: int = number) -> tuple[Blocks, SourceCard, Samples, Samples]:
            person = person_of(people, number, network, arguments.bases)
            return person.base.blocks, person.card, *earliest(person.samples, labels)

        yield f"{number}@{labels}", make


def picture_cells(name: str, model: str, labels: int, arguments: argparse.Namespace) -> Iterator[Cell]:
    """A drift of pictures, with labels drawn at random."""
    shifts = [s for s in suite() if s.model == model and s.half == "development"]
    if "cifar" in model:
        shifts = [next(s for s in shifts if s.drift == drift) for drift in DRIFTS]
    for shift in shifts[: arguments.limit]:

        def make(shift: Any = shift) -> tuple[Blocks, SourceCard, Samples, Samples] | None:
            parts, blocks = parts_of(shift, labels, 0), model_blocks(model)
            if parts is None:
                return None
            card = card_of_samples(blocks, source_parts(model)[0])
            return blocks, card, parts[0], parts[1].subset(slice(0, 1000))

        yield f"{shift.name.partition('/')[2]}@{labels}", make


def make_records(cells: Iterable[Cell], family: str) -> None:
    """Add missing records, each a line of its own."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"{family}.jsonl"
    done = {record["cell"] for record in read_records([path])}
    for cell, make in cells:
        found = None if cell in done else make()
        if found is None:
            continue
        with path.open("a") as file:
            file.write(json.dumps({"family": family, "cell": cell, **record_of(*found)}) + "\n")


def record_of(blocks: Blocks, card: SourceCard, train: Samples, test: Samples) -> Record:
    """What each option reaches, and on which labels it is right when they are held out."""
    folds = folds_of(find_manner(train, {}, SplitBy()), FOLDS, in_order=True)
    how = Tuning(prototypes=prototypes_of(card))
    base = correct(blocks, {}, test).mean(), bits(correct(blocks, {}, train))
    options: dict[str, Any] = {"none": {"role": "none", "1": base}}
    state = {key: value.clone() for key, value in blocks.model.state_dict().items()}
    batch_norm, solvable = bool(batch_norms(blocks.model)), linear_head(blocks) is not None
    for option in options_of(blocks.names, blocks.head, batch_norm, solvable):
        if option.role == "none":
            continue
        plan, parts = option.plan(find_recipe("fast"), 0, Budget()), []
        start = time.process_time()
        try:
            tuned = tune_samples(blocks, plan, train, how=how).changed
            seconds = time.process_time() - start
            for fold in range(folds.max() + 1):
                rest = train.subset(np.flatnonzero(folds != fold))
                parts.append(
                    (np.flatnonzero(folds == fold), tune_samples(blocks, plan, rest, how=how).changed)
                )
        except TbftError as error:
            print(f"{option.name}: {error}", file=sys.stderr)
            continue
        found: dict[str, Any] = {"role": option.role, "cpu_seconds": seconds}
        for strength in strengths_of(plan.arm, plan.statistics.adapts):
            right = np.zeros(len(train), np.bool_)
            for rows, changed in parts:
                right[rows] = correct(blocks, blended(state, changed, strength), train.subset(rows))
            accuracy = correct(blocks, blended(state, tuned, strength), test).mean()
            found[f"{strength:g}"] = float(accuracy), bits(right)
        options[option.name] = found
    return {"labels": len(train), "options": options}


def correct(blocks: Blocks, changed: Mapping[str, torch.Tensor], samples: Samples) -> npt.NDArray[np.bool_]:
    """Whether the model is right on each sample after some change."""
    with changed_to(blocks.model, changed):
        return np.asarray(predict(blocks.whole, samples).argmax(1).numpy() == samples.labels)


def bits(values: npt.NDArray[np.bool_]) -> str:
    """Booleans as a string of 0 and 1."""
    return "".join("1" if value else "0" for value in values)


def families() -> set[str]:
    """The families of which there are records."""
    return {record["family"] for record in read_records()}


def read_records(paths: Sequence[Path] | None = None) -> list[Record]:
    """All records; a family's person or drift is a cell."""
    found = sorted(RECORDS.glob("*.jsonl")) if paths is None else [path for path in paths if path.exists()]
    return [json.loads(line) for path in found for line in path.read_text().splitlines()]


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
    spread = FOLD_SPREAD if record["family"].startswith(PICTURES) else STRETCH_SPREAD
    for name, option in record["options"].items():
        if name == "none":
            continue
        for strength, (reached, held_out) in outcomes(option):
            asked = Option(name, "full", tbft.plan.KEEP, option["role"])
            trial = Trial(name, float(strength), rows, right(held_out), base_correct, spread)
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
            "ours": float(ours.mean()),
            "best_in_hindsight": float(best.mean()),
            "best_at_full_strength": float(at_full.mean()),
            "regret_points": float(100 * (at_full - ours).mean()),
            "harmed_share": float((ours < base - 0.01).mean()),
            "largest_loss_points": float(100 * max(0.0, (base - ours).max())),
            **{f"always {role}": float(np.mean([fixed(r, role) for r in group])) for role in roles},
        }
    mean = {key: float(np.mean([row[key] for row in rows.values()])) for key in next(iter(rows.values()))}
    return {"rows": rows, "mean": mean, "records": len(records)}


def show(report: Mapping[str, Any]) -> None:
    shown = ("ours", "always none", "always head", "always late", "always full", "best_at_full_strength")
    for name, row in [*report["rows"].items(), ("mean", report["mean"])]:
        figures = "  ".join(f"{key.removeprefix('always ')} {100 * row[key]:.1f}" for key in shown)
        harmed = f"harmed {100 * row['harmed_share']:.0f} %"
        print(f"{name:36} {figures}  regret {row['regret_points']:.1f}  {harmed}")


if __name__ == "__main__":
    main()
