"""Running an experiment: what is there already is not done again, and what is done is on the disk at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paper.engines import ENGINES, Outcome, Work, outcomes
from paper.experiments import METHODS, RECIPE_FREE, RECIPES, Experiment, find_experiment
from paper.identity import hashed
from paper.provenance import commit
from paper.records import Store, done_in
from paper.runs import Run, Settings, cells, runs_of
from tbft.errors import TbftError, unknown

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
    done: int  # by this call
    failed: tuple[Outcome, ...]

    @property
    def found(self) -> int:
        """Runs that were there already, or that another process did meanwhile."""
        return self.wanted - self.done - len(self.failed)


def make_settings(
    name: str,
    recipe: str = "paper",
    *,
    model: str | None = None,
    weights: str | None = None,
    data: str | None = None,
    test_data: str | None = None,
    classes: str | None = None,
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
    return Settings(
        experiment=name,
        recipe=recipe,
        model=preset.name,
        weights=None if weights is None else str(_there(weights)),
        data=tuple(str(below(path, "--data SET")) for path in experiment.data)
        if data is None
        else (str(Path(data).absolute()) if Path(data).exists() else data,),
        test_data=_test_data(experiment, data, test_data),
        test_data_given=test_data is not None,
        class_map=classes or _class_map(experiment),
        card=None if card is None else str(_there(card)),
        data_name=experiment.data_name if data is None else Path(data).name,
        quick=quick,
    )


def _test_data(experiment: Experiment, data: str | None, given: str | None) -> str | None:
    if experiment.test_data is None:
        if given is not None:
            raise TbftError(f"{experiment.name} tests on a part of its data: leave --test-data out")
        return None
    if given is None and data is not None:
        raise TbftError(f"{experiment.name} tests on a set of its own: give it with --test-data, too")
    return str(below(experiment.test_data, "--test-data SET")) if given is None else str(_there(given))


def _class_map(experiment: Experiment) -> str | None:
    name = experiment.class_map
    return str(below(name, "--classes FILE")) if name and "/" in name else name


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
    from paper.bench import Bench

    experiment: Experiment = find_experiment(settings.experiment, settings.quick)
    if workers == 0 or seeds == 0:
        raise TbftError("nothing can be done by 0 workers, or with 0 seeds: give 1 or more")
    wanted_cells = cells(experiment, sizes, seeds, corruptions)
    wanted_methods = METHODS if methods is None else methods
    for kind, given, known in (("engine", [engine], ENGINES), ("method", wanted_methods, METHODS)):
        if wrong := [name for name in given if name not in known]:
            raise TbftError(unknown(kind, wrong[0], known))
    bench = Bench(settings)
    identity = bench.identity()
    group = hashed(identity, 8)
    folder = Path(out) / f"{experiment.name}-{group}"
    store = Store(folder, {"identity": identity, "notes": list(NOTES)})
    others = [hashed(bench.identity(recipe), 8) for recipe in RECIPES if recipe != settings.recipe]
    found = [(other, done_in(Path(out) / f"{experiment.name}-{other}")) for other in others]

    def is_elsewhere(run: Run) -> bool:
        """What does the same whatever the recipe may have been done with another one."""
        return run.method in RECIPE_FREE and any(replace(run, group=g).id in ids for g, ids in found)

    def is_done(run: Run) -> bool:
        """By another process, meanwhile."""
        return run.id in store.done()

    done_before = store.done()
    wanted = [list(runs_of(group, cell, wanted_methods, bench.definitions())) for cell in wanted_cells]
    todo = [[r for r in runs if r.id not in done_before and not is_elsewhere(r)] for runs in wanted]
    total, count = sum(map(len, wanted)), sum(map(len, todo))
    failed: list[Outcome] = []
    done = 0
    work = Work(settings, engine, commit())
    for settled, outcome in enumerate(outcomes(work, todo, workers, bench, is_done), start=1):
        if outcome.record is not None:
            done += store.append(outcome.record)
        elif outcome.reason:
            failed.append(outcome)
        if on_outcome is not None:
            on_outcome(settled, count, outcome)
    return Summary(store.folder, total, done, tuple(failed))


def describe(run: Run) -> str:
    """A run in a few words.

    >>> from paper.runs import Cell
    >>> describe(Run("", Cell("fog:5", None, 10, 0), "front"))
    'fog:5, 10 %, seed 0: front'
    """
    cell = run.cell
    parts: list[Any] = [cell.drift, cell.noised and f"noise on {cell.noised}", f"{cell.size} %"]
    return ", ".join([str(p) for p in parts if p] + [f"seed {cell.seed}"]) + f": {run.method}"
