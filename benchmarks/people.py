"""Real people's motion: a base model trained on everybody else, and a few labels of one person.

    TBFT_DATA=... python benchmarks/people.py --bases FOLDER --processes 8
    TBFT_DATA=... python benchmarks/people.py --bases FOLDER --only watch-cnn --people 2 --methods ours
    python benchmarks/people.py --report

For each person the base has not seen the person. The labels come from the first stretch of time of each
class, and the test part is the later half of each class, the same for every number of labels. The seed is
that of the base's training and of every method. Records are JSON lines in ``benchmarks/results/people``;
lines that are there already are not repeated, and those of `ours` carry the version of tbft, so that another
version is run beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families import Person, earliest, person_of, read_people
from people_methods import UNLABELED, Cell, Outcome, execute, methods_for
from people_report import write_report

import tbft
from tbft.blocks.state import batch_norms
from tbft.patches import versions

RESULTS = Path(__file__).parent / "results" / "people"
#: Labeled windows a class.
LABELED = (1, 2, 5, 10, 20)
#: Set and network, with the number of people: the first ones. What takes longest is first.
FAMILIES = {
    "watch-gru": 4, "phone-gru": 4, "watch-transformer": 4, "phone-transformer": 4, "watch-cnn": 10,
    "phone-and-watch-cnn": 6, "phone-cnn": 8, "wisdm-mlp": 8,
}  # fmt: skip


def cells_of(person: Person) -> Iterator[Cell]:
    """The modes for one person; a number of labels that adds none to the number before it is left out."""
    fifth, test = earliest(person.samples, None)
    yield Cell(person, "none", None, test)
    yield Cell(person, "unlabeled 20 %", fifth, test)
    yield Cell(person, "labeled 20 %", fifth, test)
    before = 0
    for labeled in LABELED:
        train, test = earliest(person.samples, labeled)
        if len(train) > 1.2 * before:
            yield Cell(person, f"{labeled} a class", train, test)
        before = len(train)


def methods_in(cell: Cell, blocks: tbft.Blocks) -> list[str]:
    """The methods that can be used in a mode."""
    if cell.mode == "none":
        return ["none", "tent"] if batch_norms(blocks.model) else ["none"]
    names = methods_for(blocks)
    return [name for name in names if cell.mode != "unlabeled 20 %" or name in UNLABELED]


def record_of(cell: Cell, method: str, seed: int, outcome: Outcome) -> dict[str, Any]:
    """One line: what a method reached for a person in a mode."""
    right = outcome.predicted == cell.test.labels
    return {
        "person": cell.person.name,
        "mode": cell.mode,
        "method": method,
        "version": version() if method == "ours" else None,
        "seed": seed,
        "train_samples": 0 if cell.train is None else len(cell.train),
        "test_samples": len(cell.test),
        "accuracy": round(float(right.mean()), 5),
        "macro_f1": round(macro_f1(cell.test.labels, outcome.predicted), 5),
        "cpu_seconds": round(outcome.cpu_seconds, 4),
        "patch_bytes": outcome.patch_bytes,
        "details": dict(outcome.details),
        "versions": {key: versions()[key] for key in ("python", "torch")},
    }


def macro_f1(labels: Any, predicted: Any) -> float:
    """Mean F1 over the classes that the labels have.

    >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    0.7333333333333334
    """
    scores = []
    for label in np.unique(labels):
        hits = int(((labels == label) & (predicted == label)).sum())
        scores.append(2 * hits / (int((labels == label).sum()) + int((predicted == label).sum())))
    return float(np.mean(scores))


@cache
def version() -> str:
    """The version of tbft that runs, with a checksum of its source: copies of a checkout have no commit."""
    folder = Path(tbft.__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return f"{tbft.__version__} {digest[:10]}"


Key = tuple[str, str, str, str | None, int]


def key_of(record: dict[str, Any]) -> Key:
    return record["person"], record["mode"], record["method"], record["version"], record["seed"]


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Work:
    """What is to be run, and where records and bases are; empty `modes` or `methods` stand for all.

    Attributes:
        until: nothing is begun after this time.
    """

    records: Path
    bases: Path
    modes: Sequence[str] = ()
    methods: Sequence[str] = ()
    until: float = float("inf")

    def missing(self, cell: Cell, seed: int, done: frozenset[Key]) -> list[str]:
        """The methods without a record for a cell."""
        if self.modes and cell.mode not in self.modes:
            return []
        names = [n for n in methods_in(cell, cell.person.base.blocks) if n in (self.methods or [n])]
        own = {"ours": version()}
        return [n for n in names if (cell.person.name, cell.mode, n, own.get(n), seed) not in done]

    def run(self, family: str, number: int, seed: int) -> None:
        """All that is missing for a person, each line written when it is known."""
        if time.time() > self.until:
            return
        torch.set_num_threads(1)
        name, _, network = family.rpartition("-")
        path = self.records / f"{family}.jsonl"
        done = frozenset(key_of(record) for record in read_records(path))
        person = person_of(people_of(name), number, network, self.bases, seed)
        for cell in cells_of(person):
            for method in self.missing(cell, seed, done):
                if time.time() > self.until:
                    return
                line = json.dumps(record_of(cell, method, seed, execute(method, cell, seed)))
                with path.open("a") as file:  # others append to it, too: a line is one write
                    file.write(line + "\n")


@cache
def people_of(name: str) -> Any:
    return read_people(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", type=Path, help="folder of the base models; missing ones are trained")
    parser.add_argument("--records", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--only", nargs="*", choices=list(FAMILIES), help="families (default: all)")
    parser.add_argument("--people", type=int, help="how many people of each, the first ones")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--methods", nargs="*", default=[], help="default: all")
    parser.add_argument("--modes", nargs="*", default=[], help="default: all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after these")
    parser.add_argument("--report", action="store_true", help="write the tables and draw the picture")
    arguments = parser.parse_args()
    if arguments.report:
        write_report(sorted(arguments.records.glob("*.jsonl")))
        return
    if not arguments.bases:
        parser.error("give --bases")
    arguments.records.mkdir(parents=True, exist_ok=True)
    until = time.time() + arguments.seconds
    work = Work(arguments.records, arguments.bases, arguments.modes, arguments.methods, until)
    families = arguments.only or list(FAMILIES)
    cells = [
        (family, int(number), seed)
        for seed in arguments.seeds
        for family in families
        for number in np.unique(people_of(family.rpartition("-")[0]).person)[: FAMILIES[family]][
            : arguments.people
        ]
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for running in [pool.submit(work.run, *cell) for cell in cells]:
            running.result()


if __name__ == "__main__":
    main()
