"""Records of what each option reaches on the families of ``families*.py``.

    TBFT_DATA=... python benchmarks/families_records.py --families watch-cnn wisdm-mlp --labels 2 5 10
    TBFT_DATA=... python benchmarks/families_records.py --share 3/8 --seconds 400 --out records-3.jsonl

A cell is a person or a drift, with a number of labels per class and a draw of these. Its record holds for
each option what it reaches on test samples, and whether it is right on each label when that is held out, at
several strengths. Cells that are in the file are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from families import earliest, person_of, read_people
from families_pictures import PICTURE_MODELS, picture_base, picture_parts, picture_shifts
from families_synthetic import CLEAN, SYNTHETIC, synthetic_base, synthetic_parts

from tbft.blocks import Blocks
from tbft.blocks.solvable import linear_head
from tbft.blocks.state import batch_norms
from tbft.choosing.options import Option, options_of
from tbft.choosing.trials import strengths_of
from tbft.choosing.trying import prototypes_of, trial_folds
from tbft.data import Samples
from tbft.diagnosis.card import SourceCard
from tbft.errors import TbftError
from tbft.plan import Budget, Recipe, find_recipe
from tbft.tuning.execution import blended, tune_samples
from tbft.tuning.options import Tuning
from tbft.verification.comparison import changed_to
from tbft.verification.running import predict

RECORDS = Path(__file__).parent / "results" / "families"
FAMILIES = ("watch-cnn", "wisdm-mlp", "phone-cnn", "phone-and-watch-cnn", "watch-transformer", "watch-gru",
            *PICTURE_MODELS, *SYNTHETIC, *CLEAN)  # fmt: skip
#: People or drifts of a family.
LIMIT = 10
Record = dict[str, Any]
Parts = tuple[Blocks, SourceCard, Samples, Samples]
Cell = tuple[str, str, Callable[[], Parts | None]]  # family, name, what makes its parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--labels", nargs="+", type=int, default=[5, 10, 2], help="per class")
    parser.add_argument("--draws", type=int, default=2, help="draws of labels (default 2)")
    parser.add_argument("--limit", type=int, default=LIMIT, help="people or drifts of a family")
    parser.add_argument("--bases", type=Path, default=Path("build/people"), help="folder of base models")
    parser.add_argument("--share", default="0/1", help="K/N: only every N-th cell, from the K-th on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no cell after this time")
    parser.add_argument("--out", type=Path, help="write all records here instead of a file a family")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start, (own, shares) = time.monotonic(), map(int, arguments.share.split("/"))
    files = [arguments.out] if arguments.out else sorted(RECORDS.glob("*.jsonl"))
    done = {(record["family"], record["cell"]) for record in read_records(files)}
    for family, name, make in list(cells(arguments))[own::shares]:
        if (family, name) in done or time.monotonic() > start + arguments.seconds:
            continue
        try:
            parts = make()
            found = None if parts is None else record_of(*parts)
        except TbftError as error:
            print(f"{family} {name}: {error}", file=sys.stderr)
            continue
        if found is not None:
            path = arguments.out or RECORDS / f"{family}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps({"family": family, "cell": name, **found}) + "\n")


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """All cells: first draws of all families before second ones."""
    for draw in range(arguments.draws):
        for labels in arguments.labels:
            for number in range(arguments.limit):
                for family in arguments.families:
                    yield from _cell(family, number, labels, draw, arguments.bases)


def _cell(family: str, number: int, labels: int, draw: int, bases: Path) -> Iterator[Cell]:
    """The cell of the person or drift with a number, if there is one."""
    if family in PICTURE_MODELS:
        shifts = picture_shifts(family)
        if number < len(shifts):
            name = shifts[number].name.partition("/")[2]

            def make_pictures() -> Parts | None:
                parts = picture_parts(shifts[number], labels, draw)
                return None if parts is None else (*picture_base(family, bases), *parts)

            yield family, f"{name}#{draw}@{labels}", make_pictures
        return
    if family in SYNTHETIC or family in CLEAN:

        def make_synthetic() -> Parts:
            return *synthetic_base(family, bases), *synthetic_parts(family, number, labels, draw)

        yield family, f"{number}#{draw}@{labels}", make_synthetic
        return
    name, _, network = family.rpartition("-")
    yield family, f"{number}#{draw}@{labels}", partial(_person, name, network, number, (labels, draw), bases)


def _person(name: str, network: str, number: int, wanted: tuple[int, int], bases: Path) -> Parts | None:
    """Labels from the first stretch of time, or from a later one, and a test part later than both."""
    people = read_people(name)
    person = person_of(people, int(np.unique(people.person)[number]), network, bases)
    train, test = earliest(person.samples, *wanted)
    if len(np.unique(train.labels)) < 2:
        return None
    return person.base.blocks, person.card, train, test


def record_of(blocks: Blocks, card: SourceCard, train: Samples, test: Samples) -> Record:
    """What each option reaches, and on which labels it is right when they are held out."""
    few, many = trial_folds(train)
    if np.bincount(train.labels).max() < 2:  # nothing can be held out
        few = many = np.full(len(train), -1)
    reached = accuracies(correct(blocks, {}, test))
    base = reached[0], bits(correct(blocks, {}, train)), *reached[1:]
    options: dict[str, Any] = {"none": {"role": "none", "1": base}}
    for option, recipe in variants(blocks):
        folds = few if option.plan(recipe, 0, Budget()).arm.trains else many
        try:
            options[option.name] = _outcomes(blocks, option, recipe, (card, train, test, folds))
        except TbftError as error:
            print(f"{option.name}: {error}", file=sys.stderr)
    return {"labels": len(train), "options": options}


def variants(blocks: Blocks) -> Iterator[tuple[Option, Recipe]]:
    """All options but the base, with their recipe."""
    options = options_of(
        blocks.names, blocks.head, bool(batch_norms(blocks.model)), linear_head(blocks) is not None
    )
    yield from ((option, find_recipe("fast")) for option in options if option.role != "none")


def _outcomes(
    blocks: Blocks, option: Option, recipe: Recipe, parts: tuple[SourceCard, Samples, Samples, Any]
) -> dict[str, Any]:
    card, train, test, folds = parts
    plan, how = option.plan(recipe, 0, Budget()), Tuning(prototypes=prototypes_of(card))
    state = {key: value.clone() for key, value in blocks.model.state_dict().items()}
    start, held = time.process_time(), []
    tuned = tune_samples(blocks, plan, train, how=how).changed
    found: dict[str, Any] = {"role": option.role, "cpu_seconds": round(time.process_time() - start, 3)}
    for fold in range(folds.max() + 1):
        rest = train.subset(np.flatnonzero(folds != fold))
        held.append((np.flatnonzero(folds == fold), tune_samples(blocks, plan, rest, how=how).changed))
    for strength in strengths_of(plan.arm, plan.statistics.adapts):
        right = np.zeros(len(train), np.bool_)
        for rows, changed in held:
            right[rows] = correct(blocks, blended(state, changed, strength), train.subset(rows))
        reached = accuracies(correct(blocks, blended(state, tuned, strength), test))
        found[f"{strength:g}"] = reached[0], bits(right) if held else "", *reached[1:]
    return found


def accuracies(right: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Accuracy on the test part, and on two halves of it that take turns every five samples."""
    first = np.arange(len(right)) // 5 % 2 == 0
    return tuple(round(float(part.mean()), 4) for part in (right, right[first], right[~first]))


def correct(blocks: Blocks, changed: Mapping[str, torch.Tensor], samples: Samples) -> npt.NDArray[np.bool_]:
    """Whether the model is right on each sample after some change."""
    with changed_to(blocks.model, changed):
        return np.asarray(predict(blocks, samples).argmax(1).numpy() == samples.labels)


def bits(values: npt.NDArray[np.bool_]) -> str:
    """Booleans as a string of 0 and 1."""
    return "".join("1" if value else "0" for value in values)


def read_records(paths: Sequence[Path] | None = None) -> list[Record]:
    """All records."""
    found = sorted(RECORDS.glob("*.jsonl")) if paths is None else [path for path in paths if path.exists()]
    return [json.loads(line) for path in found for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
