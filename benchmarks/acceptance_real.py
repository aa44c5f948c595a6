"""Acceptance where nothing can be gained: clean pictures of CIFAR-10, arms named by the user.

    TBFT_DATA=/folder python benchmarks/acceptance_real.py --processes 8   # adds what the record lacks

Each draw takes labeled samples from the test set (a JPEG copy, the first 500 pictures of each class) and
adapts the shipped ResNet-26, with the recipe ``fast``: on 40 samples, judged on 20, 50 and 100 others; and,
for some draws, on 20, 50 and 100 samples, cross-fitted. The true gain is that on 2,000 others (the first
five draws: from the whole test set). Each adaptation is judged again on labels drawn from those. Three
rules are compared: the cautious one, the one that is not (more fixed than regressed), and that of version
0.1 (no more regressed than fixed). No threshold was set with these figures.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import machine, parser_of, stored_runs

from tbft.blocks import Blocks
from tbft.data import Samples, read
from tbft.data.amounts import SplitBy
from tbft.data.folds import MIN_HELD_OUT
from tbft.data.parts import as_parts
from tbft.files import atomic_path
from tbft.loading import load_base
from tbft.plan import Allowance, Plan, find_recipe
from tbft.tuning.execution import tune_samples
from tbft.tuning.judging import cross_fit
from tbft.tuning.options import Tuning
from tbft.verification.acceptance import Acceptance
from tbft.verification.comparison import Outputs, accept, changed_to, run_both
from tbft.verification.running import predict

MODEL, ARMS = "resnet26-cifar10-jpeg", ("front", "layer3", "fc", "full")
PER_CLASS, TRAINED, JUDGED, TESTED = 500, 40, (20, 50, 100), 2000
#: How often an adaptation is judged again, on labels drawn from those that measure the gain.
RESAMPLED = 20
#: One in so many draws is also cross-fitted.
CROSS_FITTED = 10
RECORD = Path(__file__).parent / "results" / "acceptance_real.json"
RULES = ("cautious", "not cautious", "0.1")


Key = tuple[int, str, str, int]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, default=RECORD, help="the record, which is added to")
    parser.add_argument("--draws", type=int, default=33)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after these")
    arguments = parser.parse_args()
    runs = stored_runs(arguments.json)
    done = frozenset((run["draw"], run["arm"], run["way"], run["labels"]) for run in runs)
    until = time.time() + arguments.seconds
    with ProcessPoolExecutor(arguments.processes) as pool:
        cells = [(draw, arm) for draw in range(arguments.draws) for arm in ARMS]
        for cell in as_completed([pool.submit(adaptations, *cell, done, until) for cell in cells]):
            if cell.result():
                runs += cell.result()
                save(arguments.json, sorted(runs, key=lambda run: (run["draw"], run["arm"])))
    for row in summary(runs):
        print(json.dumps(row))


def save(path: Path, runs: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary:
        lines = ",\n  ".join(json.dumps(run) for run in runs)
        head = json.dumps({"machine": machine(), "summary": summary(runs)}, indent=1)[:-2]
        temporary.write_text(f'{head},\n "runs": [\n  {lines}\n ]\n}}\n')


class Setting:
    """The base, the samples, and which of those to test on the base gets right."""

    def __init__(self) -> None:
        self.base = load_base(MODEL)
        samples = read(Path(os.environ["TBFT_DATA"]) / "cifar10" / "test.tar", self.base.inputs)
        classes = [np.flatnonzero(samples.labels == label)[:PER_CLASS] for label in range(10)]
        samples = samples.subset(np.sort(np.concatenate(classes)))
        order = np.random.default_rng(0).permutation(len(samples))
        self.pool, self.test = samples.subset(order[TESTED:]), samples.subset(order[:TESTED])
        self.base_outputs = predict(self.blocks.model, self.test)

    @property
    def blocks(self) -> Blocks:
        return self.base.blocks

    def after(self, changed: Any) -> Outputs:
        """What the base and the tuned model return on the test part."""
        with changed_to(self.blocks.model, changed):
            return Outputs(self.test, self.base_outputs, predict(self.blocks.model, self.test))


def gain_of(outputs: Outputs) -> float:
    """The gain of a tuned model in points."""
    right = [x.argmax(1).numpy() == outputs.samples.labels for x in (outputs.before, outputs.after)]
    return round(100 * float(right[1].mean() - right[0].mean()), 2)


def some(outputs: Outputs, rows: Any) -> Outputs:
    return Outputs(outputs.samples.subset(rows), outputs.before[rows], outputs.after[rows])


@cache
def setting_of_process() -> Setting:
    torch.set_num_threads(1)
    return Setting()


def adaptations(draw: int, arm: str, done: frozenset[Key], until: float) -> list[dict[str, Any]]:
    """What is missing for a draw and an arm; nothing if time is up."""
    held_out = any((draw, arm, "held out", count) not in done for count in JUDGED)
    crossed = [n for n in JUDGED if draw % CROSS_FITTED == 0 and (draw, arm, "cross-fitted", n) not in done]
    if time.time() > until or not (held_out or crossed):
        return []
    setting = setting_of_process()
    order = np.random.default_rng(draw).permutation(len(setting.pool))
    plan = Plan(arm, find_recipe("fast"), seed=draw)
    runs = judged_on_others(setting, plan, order) if held_out else []
    return runs + [cross_fitted(setting, plan, setting.pool.subset(order[:n])) for n in crossed]


def judged_on_others(setting: Setting, plan: Plan, order: Any) -> list[dict[str, Any]]:
    """An adaptation on the first of the pool in this order, judged on the ones after them."""
    start = time.process_time()
    tuned = tune_samples(setting.blocks, plan, setting.pool.subset(order[:TRAINED]))
    others = setting.pool.subset(order[TRAINED : TRAINED + JUDGED[-1]])
    both, test = run_both(setting.blocks.model, tuned.changed, others), setting.after(tuned.changed)
    gain, seconds = gain_of(test), round(time.process_time() - start, 2)
    generator = np.random.default_rng(plan.seed)
    runs = []
    for count in JUDGED:
        judged = accept(some(both, slice(count)))
        rows = [generator.permutation(TESTED)[:count] for _ in range(RESAMPLED)]
        again = [described(plan, accept(some(test, at))) for at in rows]
        kept = {rule: sum(run[rule] for run in again) for rule in RULES}
        runs.append({**described(plan, judged), "gain": gain, "resampled": kept, "cpu_seconds": seconds})
    return runs


def cross_fitted(setting: Setting, plan: Plan, samples: Samples) -> dict[str, Any]:
    """A cross-fitted adaptation; its true gain is measured where more were fixed than regressed."""
    start, gain = time.process_time(), None
    parts = as_parts(samples, by=SplitBy(plan.seed, "none", min_val=MIN_HELD_OUT))
    outputs = cross_fit(setting.blocks, plan, parts, Tuning(), Allowance())
    assert isinstance(outputs, Outputs)
    judged = replace(accept(outputs), cross_fitted=True)
    if judged.fixed > judged.regressed:
        gain = gain_of(setting.after(tune_samples(setting.blocks, plan, parts.train).changed))
    seconds = round(time.process_time() - start, 2)
    return {**described(plan, judged), "gain": gain, "cpu_seconds": seconds}


def described(plan: Plan, judged: Acceptance) -> dict[str, Any]:
    way = "cross-fitted" if judged.cross_fitted else "held out"
    counts = {"fixed": judged.fixed, "regressed": judged.regressed}
    interval = {"low": round(100 * judged.low, 2), "high": round(100 * judged.high, 2)}
    accepted = {"cautious": judged.accepted, "not cautious": judged.gain > 0}
    if not judged.cross_fitted:
        accepted["0.1"] = judged.gain >= 0
    about = {"draw": plan.seed, "arm": plan.arm.name, "way": way, "labels": judged.count}
    return {**about, **counts, **interval, **accepted}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each way and number of labels: adaptations, accepted ones, and those that lose over a point."""
    rows = []
    for way in ("held out", "cross-fitted"):
        for count in JUDGED:
            own = [run for run in runs if (run["way"], run["labels"]) == (way, count)]
            row: dict[str, Any] = {"way": way, "labels": count, "adaptations": len(own)}
            for rule in RULES if way == "held out" else RULES[:2]:
                kept = [run for run in own if run.get(rule)]
                row[rule] = {"accepted": len(kept), "lose_a_point": sum(run["gain"] < -1 for run in kept)}
            if way == "held out" and own:
                again = [run for run in own if "resampled" in run]  # the first ones were judged once
                row["resampled"] = len(again) * RESAMPLED
                for rule in RULES:
                    harm = sum(run["resampled"][rule] for run in again if run["gain"] < -1)
                    accepted = sum(run["resampled"][rule] for run in again)
                    row[f"{rule}, resampled"] = {"accepted": accepted, "lose_a_point": harm}
                covered = [run["low"] <= run["gain"] <= run["high"] for run in own]
                row["coverage"] = round(float(np.mean(covered)), 3)
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
