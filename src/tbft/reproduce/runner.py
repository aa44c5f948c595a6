"""Running an experiment: what is there already is not done again, and what is done is on the disk at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbft.errors import TbftError, unknown
from tbft.reproduce.engines import Outcome, Work, outcomes
from tbft.reproduce.experiments import METHODS, RECIPES, Experiment, find_experiment
from tbft.reproduce.provenance import commit
from tbft.reproduce.records import Store
from tbft.reproduce.runs import Cell, Run, Settings, cells, hashed, runs_of

#: Said in every folder's ``arguments.json``.
NOTES = (
    "pictures are kept with their channels together in memory, which changes the time and not the arithmetic",
    "a cost in the paper's own way is a matter of the experiment system-cost",
    "one torch thread in every engine; energy is recorded in serial runs alone",
)

OnOutcome = Callable[[int, int, Outcome], None]  # (runs settled, runs in all, the latest)


@dataclass(frozen=True)
class Summary:
    """What a call did."""

    folder: Path
    wanted: int  # runs asked for
    found: int  # of them, there already
    failed: tuple[Outcome, ...]


def make_settings(
    name: str,
    recipe: str = "paper",
    *,
    model: str | None = None,
    weights: str | None = None,
    data: str | None = None,
    card: str | None = None,
    quick: bool = False,
) -> Settings:
    """Where model and data of an experiment lie: as given, or below the folder that ``TBFT_DATA`` names.

    Raises:
        TbftError: an unknown experiment or recipe, or a file that is not there.
    """
    from tbft.models import find_model

    experiment = find_experiment(name, quick)
    if recipe not in RECIPES:
        raise TbftError(f"the recipe is one of {', '.join(RECIPES)}, not {recipe!r}")
    preset = find_model(model or experiment.model)
    if weights is None and experiment.weights is not None and preset.name == experiment.model:
        weights = str(below(experiment.weights, "--weights FILE"))
    if weights is None and preset.weights is None and ":" not in preset.name:
        raise TbftError(f"{preset.name} is untrained as it is built: give its checkpoint with --weights FILE")
    if card is None and weights is None and preset.card is not None:
        card = str(preset.card)
    class_map = experiment.class_map
    return Settings(
        experiment=name,
        recipe=recipe,
        model=preset.name,
        weights=None if weights is None else str(_there(weights)),
        data=tuple(str(below(path, "--data SET")) for path in experiment.data)
        if data is None
        else (str(Path(data).absolute()) if Path(data).exists() else data,),
        test_data=None if experiment.test_data is None else str(below(experiment.test_data)),
        class_map=str(below(class_map)) if class_map and "/" in class_map else class_map,
        card=None if card is None else str(_there(card)),
        data_name=experiment.data_name if data is None else Path(data).name,
        quick=quick,
    )


def below(path: str, otherwise: str = "") -> Path:
    """A file of the folder of shared data."""
    place = os.environ.get("TBFT_DATA")
    if not place:
        told = f", or give {otherwise}" if otherwise else ""
        raise TbftError(f"{path} is needed: set TBFT_DATA to the folder that holds it{told}")
    return _there(Path(place) / path, otherwise)


def _there(path: str | Path, otherwise: str = "") -> Path:
    if not Path(path).exists():
        told = f": put it there, or give {otherwise}" if otherwise else ""
        raise TbftError(f"{path}: no such file or folder{told}")
    return Path(path).absolute()


def run(
    settings: Settings,
    out: str | Path = "results",
    *,
    sizes: Sequence[int] | None = None,
    seeds: int | None = None,
    corruptions: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    engine: str = "serial",
    workers: int | None = None,
    on_outcome: OnOutcome | None = None,
) -> Summary:
    """Do the runs of an experiment that are not done yet.

    Args:
        out: records go to ``out/<experiment>-<hash>/``.
        methods: default: all.
        workers: of the engines ``pool`` and ``ray``; default: one a core.
        on_outcome: called after every run, its record being on the disk.

    Raises:
        TbftError: settings that do not fit together.
    """
    from tbft.reproduce.bench import Bench

    experiment: Experiment = find_experiment(settings.experiment, settings.quick)
    if workers == 0 or seeds == 0:
        raise TbftError("nothing can be done by 0 workers, or with 0 seeds: give 1 or more")
    wanted_cells = cells(experiment, sizes, seeds, corruptions)
    wanted_methods = METHODS if methods is None else methods
    for method in wanted_methods:
        if method not in METHODS:
            raise TbftError(unknown("method", method, METHODS))
    bench = Bench(settings)
    identity = bench.identity()
    group = hashed(identity, 8)
    store = Store(Path(out) / f"{experiment.name}-{group}", {"identity": identity, "notes": list(NOTES)})
    done = store.done()
    wanted = [_runs(group, cell, wanted_methods, bench.definitions()) for cell in wanted_cells]
    todo = [[one for one in runs if one.id not in done] for runs in wanted]
    total, count = sum(map(len, wanted)), sum(map(len, todo))
    del bench
    failed = []
    work = Work(settings, engine, commit())
    for settled, outcome in enumerate(outcomes(work, todo, workers), start=1):
        if outcome.record is None:
            failed.append(outcome)
        else:
            store.append(outcome.record)
        if on_outcome is not None:
            on_outcome(settled, count, outcome)
    return Summary(store.folder, total, total - count, tuple(failed))


def _runs(group: str, cell: Cell, methods: Sequence[str], definitions: Mapping[str, str]) -> list[Run]:
    return list(runs_of(group, cell, methods, definitions))


def describe(run: Run) -> str:
    """A run in a few words.

    >>> describe(Run("", Cell("fog:5", None, 10, 0), "front"))
    'fog:5, 10 %, seed 0: front'
    """
    cell = run.cell
    parts: list[Any] = [cell.drift, cell.noised and f"noise on {cell.noised}", f"{cell.size} %"]
    return ", ".join([str(p) for p in parts if p] + [f"seed {cell.seed}"]) + f": {run.method}"
