"""How often does the truth lie in the 80 % interval of `tbft.forecast`?

    TBFT_DATA=... python benchmarks/forecast.py --bases FOLDER --features FOLDER --json FILE

For each shift or person: labels are drawn, a forecast is made from them, and 1, 2, 5 and 10 times as many
labels are given to the head that the forecast is about. The truth is its accuracy on a test part, or the
base's if that is better. Pictures are drawn at random; the windows of a person are the first ones of each
class, and are tested on the later half. The families marked `fit` were used to set how much intervals are
widened (``choosing/power_law.py``); the others only for the figures. The split was fixed by name.

`--features` keeps features and logits, which take minutes; `--bases` has the base models of ``people.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from families import person_of, read_people
from records import parser_of
from shifts import clean_pool, model_blocks, source_parts

import tbft
from tbft.choosing.label_forecast import FACTORS, MIN_LABELS, Seen, forecast_labels
from tbft.choosing.learning_curve import RIDGE, head_problem
from tbft.diagnosis.card_building import card_of_samples
from tbft.diagnosis.observation import observe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LABELED = (1, 2, 5, 10, 20)
#: Family -> its part, and its drifts with their seeds, or the number of its people.
PICTURES: dict[str, tuple[str, tuple[tuple[str, int], ...]]] = {
    "resnet26-cifar10-jpeg": ("fit", (("gaussian_noise:5", 0), ("contrast:5", 0), ("glass_blur:5", 0),
                                      ("fog:5", 0), ("clean", 0))),
    "resnet20-cifar10": ("report", (("shot_noise:5", 0), ("motion_blur:5", 0), ("snow:5", 0), ("frost:5", 0),
                                    ("labels:permute", 2))),
    "resnet26-tiny17": ("report", (("clean", 0), ("gaussian_noise:3", 0), ("snow:3", 0))),
}  # fmt: skip
PEOPLE = {
    "watch-cnn": ("fit", 10), "watch-gru": ("fit", 4), "watch-transformer": ("fit", 4),
    "phone-cnn": ("fit", 8), "wisdm-mlp": ("report", 36), "phone-and-watch-cnn": ("report", 6),
}  # fmt: skip
POOL, TEST, SEEDS = 4500, 1500, 4


@dataclass(frozen=True, eq=False)
class Case:
    """What a base computes on the samples of one shift or person."""

    family: str
    name: str
    features: Floats
    logits: Floats
    labels: Ints
    source_accuracy: float

    @property
    def class_names(self) -> list[str]:
        return [str(k) for k in range(self.logits.shape[1])]

    def accuracy(self, rows: Ints, test: Ints) -> float:
        """Accuracy on `test` of the head fitted to `rows`, or of the base if that is better."""
        mean, spread = self.features[rows].mean(0), self.features[rows].std(0) + 1e-3
        x, held_out = (
            np.concatenate([(self.features[at] - mean) / spread, np.ones((len(at), 1))], axis=1)
            for at in (rows, test)
        )
        base = self.logits - self.logits.mean(1, keepdims=True)
        targets = np.eye(base.shape[1])[self.labels[rows]] - 1 / base.shape[1]
        slope = max(0.0, float((base[rows] * targets).sum() / ((base[rows] ** 2).sum() + 1e-9)))
        ridge = RIDGE * (x.shape[1] - 1) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + ridge, x.T @ (targets - slope * base[rows]))
        hits = (held_out @ weights + slope * base[test]).argmax(1) == self.labels[test]
        return max(float(hits.mean()), float((self.logits[test].argmax(1) == self.labels[test]).mean()))


def picture_cases(folder: Path) -> Iterator[Case]:
    for model, (_, drifts) in PICTURES.items():
        for drift, seed in drifts:
            path = folder / f"{model}-{drift.replace(':', '-')}-{seed}.npz"
            if not path.exists():
                domain = "target" if "tiny17" in model else "test"
                blocks, pool = model_blocks(model), clean_pool(model, domain, None)
                some = pool.subset(np.sort(np.random.default_rng(0).permutation(len(pool))[:POOL]))
                samples = some if drift == "clean" else tbft.apply_drift(some, drift, seed)
                card = card_of_samples(blocks, source_parts(model)[0])
                keep(path, observe(blocks, samples), samples.labels, card.accuracy)
            yield kept(path, model, drift)


def people_cases(folder: Path, bases: Path) -> Iterator[Case]:
    for family, (_, count) in PEOPLE.items():
        name, _, network = family.rpartition("-")
        people = read_people(name)
        for number in np.unique(people.person)[:count]:
            path = folder / f"{family}-{number}.npz"
            if not path.exists():
                person = person_of(people, int(number), network, bases)
                seen = observe(person.base.blocks, person.samples, "float32")
                keep(path, seen, person.samples.labels, person.card.accuracy)
            yield kept(path, family, str(number))


def keep(path: Path, seen: Any, labels: Ints, source_accuracy: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, features=seen.features, logits=seen.logits, labels=labels, source=source_accuracy)


def kept(path: Path, family: str, name: str) -> Case:
    with np.load(path) as file:
        features, logits = file["features"].astype(float), file["logits"].astype(float)
        return Case(family, name, features, logits, file["labels"], float(file["source"]))


def draws(case: Case) -> Iterator[tuple[int, int, dict[int, Ints], Ints]]:
    """Labels per class, seed, rows for each factor, and the rows to test on."""
    classes = [np.flatnonzero(case.labels == label) for label in np.unique(case.labels)]
    if case.family in PEOPLE:
        pools = [own[: max(len(own) // 2 - 2, 0)] for own in classes]
        test = np.concatenate([own[len(own) // 2 :] for own in classes])
        sets = [(0, pools, test)]
    else:
        sets = []
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(case.labels))
            rest = order[TEST:]
            pools = [rest[case.labels[rest] == label] for label in range(len(classes))]
            sets.append((seed, pools, order[:TEST]))
    for seed, pools, test in sets:
        for labeled in LABELED:
            rows = {f: np.concatenate([own[: f * labeled] for own in pools]) for f in FACTORS}
            now, classes_now = len(rows[1]), len(np.unique(case.labels[rows[1]]))
            if classes_now > 1 and now >= max(0.6 * labeled * len(pools), MIN_LABELS):
                enough = {f: at for f, at in rows.items() if len(at) >= 0.7 * f * now}
                yield labeled, seed, enough, test


def rows_of(case: Case) -> Iterator[dict[str, Any]]:
    """A row for each draw and factor."""
    for labeled, seed, rows, test in draws(case):
        at = rows[1]
        start = time.process_time()
        found = forecast_labels(
            Seen(case.features[at], case.logits[at]), case.labels[at], case.class_names, case.source_accuracy,
            case.family in PEOPLE,
        )  # fmt: skip
        seconds = time.process_time() - start
        for expected in found.expected:
            if expected.factor in rows:
                yield {
                    "family": case.family, "case": case.name, "labels_per_class": labeled, "seed": seed,
                    "factor": expected.factor, "low": round(expected.low, 4), "high": round(expected.high, 4),
                    "expected": round(expected.accuracy, 4), "cpu_seconds": round(seconds, 4),
                    "truth": round(case.accuracy(rows[expected.factor], test), 4),
                }  # fmt: skip


def class_rows(case: Case) -> Iterator[dict[str, Any]]:
    """What twice as many labels as a class has bring, by the classes that they go to.

    Classes have unequal numbers of labels. The further ones go to those with the fewest until all have as
    many (``fewest first``), evenly to all, to the class that the head finds hardest, or to any one.
    """
    for seed in range(2):
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(case.labels))
        test, rest = order[:TEST], order[TEST:]
        pools = [rest[case.labels[rest] == label] for label in range(case.logits.shape[1])]
        for labeled in (5, 20):
            drawn = generator.multinomial(labeled * len(pools), generator.dirichlet(np.full(len(pools), 2)))
            counts = np.clip(drawn, 1, min(map(len, pools)) - 2 * labeled)
            at = np.concatenate([own[:count] for own, count in zip(pools, counts, strict=True)])
            now = case.accuracy(at, test)

            def gain(more: Ints) -> float:
                rows = [own[: c + m] for own, c, m in zip(pools, counts, more, strict=True)]  # noqa: B023
                return case.accuracy(np.concatenate(rows), test) - now  # noqa: B023

            only = 2 * labeled * np.eye(len(pools), dtype=np.int64)
            any_one = generator.choice(len(pools), 3, replace=False)
            yield {
                "family": case.family,
                "fewest first": gain(filled(counts, 2 * labeled) - counts),
                "evenly": gain(filled(0 * counts, 2 * labeled)),
                "hardest": gain(only[hardest(case, at)]),
                "any one": float(np.mean([gain(only[k]) for k in any_one])),
            }


def filled(counts: Ints, more: int) -> Ints:
    """The numbers of labels after each further one went to a class with the fewest.

    >>> filled(np.array([5, 1, 2]), 4)
    array([5, 4, 3])
    """
    counts = counts.copy()
    for _ in range(more):
        counts[counts.argmin()] += 1
    return counts


def hardest(case: Case, rows: Ints) -> int:
    """The class with the lowest recall of heads that were fitted to other folds."""
    labels = case.labels[rows]
    problem = head_problem(case.features[rows], case.logits[rows], labels)
    folds = np.random.default_rng(0).integers(0, 4, len(rows))
    pairs = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(4)]
    hits = np.zeros(len(rows))
    for others, inside in pairs:
        hits[inside] = problem.correct(others, inside)
    recalls = [(hits[labels == k].sum() + 1) / ((labels == k).sum() + 2) for k in range(case.logits.shape[1])]
    return int(np.argmin(recalls))


def class_means(gains: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean gain in points of each way, and the number of draws."""
    ways = [key for key in gains[0] if key != "family"]
    return {"count": len(gains), **{w: round(100 * float(np.mean([g[w] for g in gains])), 2) for w in ways}}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Coverage and width of the intervals, and the error of the median; accuracies in points."""
    inside = [r["low"] <= r["truth"] <= r["high"] for r in rows]
    off = np.array([r["expected"] - r["truth"] for r in rows])
    return {
        "count": len(rows),
        "coverage_percent": round(100 * float(np.mean(inside)), 1),
        "width_points": round(100 * float(np.mean([r["high"] - r["low"] for r in rows])), 1),
        "bias_points": round(100 * float(off.mean()), 1),
        "mean_error_points": round(100 * float(np.abs(off).mean()), 1),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bases", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures = list(picture_cases(arguments.features))
    cases = [*pictures, *people_cases(arguments.features, arguments.bases)]
    rows = [row for case in cases for row in rows_of(case)]
    parts = {family: part for family, (part, _) in [*PICTURES.items(), *PEOPLE.items()]}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind = "people" if row["family"] in PEOPLE else "pictures"
        part = parts[row["family"]]
        for name in (f"{part}: {row['family']}", f"{part}: all", f"{part}: all {kind}",
                     f"{part}: all {kind}, {row['labels_per_class']} a class",
                     f"{part}: all {kind}, {row['factor']}x labels",
                     f"{part}: {row['family']}, {row['factor']}x labels"):  # fmt: skip
            groups.setdefault(name, []).append(row)
    table = {name: summary(found) for name, found in sorted(groups.items())}
    for name, found in table.items():
        print(f"{name:42s}", "  ".join(f"{key} {value}" for key, value in found.items()))
    gains = [gain for case in pictures for gain in class_rows(case)]
    means = {
        part: class_means([g for g in gains if parts[g["family"]] == part]) for part in ("fit", "report")
    }
    for part, found in means.items():
        print(f"{part}: gain in points by the classes that further labels go to:", found)
    if arguments.json:
        record = {"summary": table, "class_gains_points": means, "rows": rows}
        arguments.json.write_text(json.dumps(record).replace("}, {", "},\n{") + "\n")


if __name__ == "__main__":
    main()
