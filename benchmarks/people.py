"""Real people's motion: a base model trained on everybody else, and a few labels of one person.

    TBFT_DATA=... python benchmarks/people.py watch cnn --bases FOLDER
    TBFT_DATA=... python benchmarks/people.py watch cnn --bases FOLDER --methods ours
    python benchmarks/people.py --report

For each person the base has not seen the person. The labels come from the first stretch of time of each
class, and the test part is the later half of each class, the same for every number of labels. Records are
JSON lines in ``benchmarks/results/people``; lines that are there already are not repeated, and those of
`ours` carry the version of tbft, so that another version is run beside them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families import NETWORKS, Person, earliest, person_of, read_people
from people_methods import UNLABELED, Outcome, execute, methods_for
from people_report import write_report

import tbft
from tbft.blocks.state import batch_norms
from tbft.patches import versions

RESULTS = Path(__file__).parent / "results" / "people"
#: Labeled windows a class.
LABELED = (1, 2, 5, 10, 20)
SETS = ("watch", "phone", "phone-and-watch", "wisdm")


@dataclass(frozen=True, eq=False)
class Cell:
    """What one person gives in one mode of calibration.

    Attributes:
        mode: ``none``, ``unlabeled 20 %``, ``labeled 20 %`` or ``5 a class``.
        train: None in the mode ``none``.
    """

    person: Person
    mode: str
    train: tbft.Samples | None
    test: tbft.Samples


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


def record_of(cell: Cell, method: str, outcome: Outcome) -> dict[str, Any]:
    """One line: what a method reached for a person in a mode."""
    right = outcome.predicted == cell.test.labels
    return {
        "person": cell.person.name,
        "mode": cell.mode,
        "method": method,
        "version": version() if method == "ours" else None,
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


def version() -> str:
    """The commit of tbft that runs."""
    git = ["git", "-C", str(Path(tbft.__file__).parent), "rev-parse", "--short=10", "HEAD"]
    return f"{tbft.__version__} {subprocess.run(git, capture_output=True, text=True).stdout.strip()}".strip()


def key_of(record: dict[str, Any]) -> tuple[str, str, str, str | None]:
    return record["person"], record["mode"], record["method"], record["version"]


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", nargs="?", choices=SETS)
    parser.add_argument("network", nargs="?", choices=list(NETWORKS))
    parser.add_argument("--bases", type=Path, help="folder of the base models; missing ones are trained")
    parser.add_argument("--people", type=int, default=10, help="how many people, the first ones (default 10)")
    parser.add_argument("--methods", nargs="*", help="default: all")
    parser.add_argument("--modes", nargs="*", help="default: all")
    parser.add_argument("--report", action="store_true", help="print the table and draw the picture")
    arguments = parser.parse_args()
    if arguments.report:
        write_report(sorted(RESULTS.glob("*.jsonl")))
        return
    if not (arguments.set and arguments.network and arguments.bases):
        parser.error("give a set, a network and --bases")
    torch.set_num_threads(1)
    path = RESULTS / f"{arguments.set}-{arguments.network}.jsonl"
    done = {key_of(record) for record in read_records(path)}
    people = read_people(arguments.set)
    for number in np.unique(people.person)[: arguments.people]:
        person = person_of(people, int(number), arguments.network, arguments.bases)
        for cell in cells_of(person):
            if arguments.modes and cell.mode not in arguments.modes:
                continue
            for method in methods_in(cell, person.base.blocks):
                own = version() if method == "ours" else None
                is_wanted = arguments.methods is None or method in arguments.methods
                if is_wanted and (person.name, cell.mode, method, own) not in done:
                    outcome = execute(method, person, cell.train, cell.test)
                    with path.open("a") as file:
                        file.write(json.dumps(record_of(cell, method, outcome)) + "\n")


if __name__ == "__main__":
    main()
