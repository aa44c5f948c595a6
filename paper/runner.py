"""Running an experiment: what is recorded is not done again, and what is done is on the disk at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.engines import ENGINES, Outcome, Work, outcomes
from paper.experiments import METHODS, RECIPE_FREE, RECIPES, Experiment, find_experiment
from paper.identity import hashed, recipe_identity
from paper.provenance import commit
from paper.records import Store, done_in
from paper.runs import Cell, Run, Settings, cells, runs_of
from tbft import TbftError
from tbft.errors import unknown

if TYPE_CHECKING:
    from paper.bench import Bench

#: Part of every folder's ``arguments.json``, worded as in the first ones.
NOTES = (
    "pictures are kept with their channels together in memory, which changes the time and not the arithmetic",
    "a cost in the paper's own way is a matter of the experiment system-cost",
    "one torch thread in every engine; energy is recorded in serial runs alone",
)

OnOutcome = Callable[[int, int, Outcome], None]  # (runs finished, runs in all, the latest)


@dataclass(frozen=True)
class Summary:
    """What a call did.

    Attributes:
        wanted: runs asked for.
        done: runs done and recorded by this call.
        failed: runs that ended without a record, with the reason.
    """

    folder: Path
    wanted: int
    done: int
    failed: tuple[Outcome, ...]

    @property
    def found(self) -> int:
        """Runs that were recorded already, or that another process has taken."""
        return self.wanted - self.done - len(self.failed)


@dataclass(frozen=True)
class Given:
    """What to use in place of an experiment's own; None: its own.

    Attributes:
        model: a preset, or ``package.module:factory``.
        weights, card: checkpoint and source card of the base.
        data, test_data, classes: as ``--data`` and ``--classes`` of ``tbft personalize``.
    """

    model: str | None = None
    weights: str | None = None
    data: str | None = None
    test_data: str | None = None
    classes: str | None = None
    card: str | None = None


def make_settings(
    name: str, recipe: str = "paper", given: Given = Given(), quick: bool = False, device: str = "cpu"
) -> Settings:
    """Where an experiment's model and data lie: as given, or else below the folder that ``TBFT_DATA`` names.

    Raises:
        TbftError: an unknown experiment or recipe, or a missing file.
    """
    from tbft import find_model

    experiment = find_experiment(name, quick)
    if recipe not in RECIPES:
        raise TbftError(f"the recipe must be one of {', '.join(RECIPES)}, not {recipe!r}")
    preset = find_model(given.model or experiment.model)
    weights, card = given.weights, given.card
    if weights is None and experiment.weights is not None and preset.name == experiment.model:
        weights = str(below(experiment.weights, "--weights FILE"))
    if weights is None and preset.weights is None and ":" not in preset.name:
        raise TbftError(f"{preset.name} comes without weights: give a checkpoint with --weights FILE")
    if card is None and weights is None and preset.card is not None:
        card = str(preset.card)
    return Settings(
        experiment=name,
        recipe=recipe,
        model=preset.name,
        weights=None if weights is None else str(_existing(weights)),
        data=_data(experiment, given.data),
        test_data=_test_data(experiment, given),
        test_data_given=given.test_data is not None,
        class_map=given.classes or _class_map(experiment),
        card=None if card is None else str(_existing(card)),
        data_name=experiment.data_name if given.data is None else Path(given.data).name,
        quick=quick,
        device=device,
    )


def _data(experiment: Experiment, given: str | None) -> tuple[str, ...]:
    if given is None:
        return tuple(str(below(path, "--data SET")) for path in experiment.data)
    return (str(Path(given).absolute()) if Path(given).exists() else given,)


def _test_data(experiment: Experiment, given: Given) -> str | None:
    if given.test_data is not None:
        if experiment.test_data is None:
            raise TbftError(f"{experiment.name} tests on a part of its data: leave --test-data out")
        return str(_existing(given.test_data))
    if experiment.test_data is None:
        return None
    if given.data is not None:
        raise TbftError(f"{experiment.name} tests on a separate set: give it with --test-data, too")
    return str(below(experiment.test_data, "--test-data SET"))


def _class_map(experiment: Experiment) -> str | None:
    name = experiment.class_map
    return str(below(name, "--classes FILE")) if name and "/" in name else name


def below(path: str, option: str) -> Path:
    """A path in the data folder; `option` is what to give if it is not there."""
    folder = os.environ.get("TBFT_DATA")
    if not folder:
        raise TbftError(f"{path} is needed: set TBFT_DATA to the folder that holds it, or give {option}")
    return _existing(Path(folder) / path, f": put it there, or give {option}")


def _existing(path: str | Path, remedy: str = "") -> Path:
    if not Path(path).exists():
        raise TbftError(f"{path}: no such file or folder{remedy}")
    return Path(path).absolute()


@dataclass(frozen=True)
class Scope:
    """Which runs of an experiment; None: all of them.

    Attributes:
        sizes: training sizes in percent.
        seeds: how many, from 0.
        corruptions: names, for the experiment on corruptions.
    """

    sizes: Sequence[int] | None = None
    seeds: int | None = None
    corruptions: Sequence[str] | None = None
    methods: Sequence[str] | None = None

    def cells(self, experiment: Experiment) -> list[Cell]:
        """The cells in scope.

        Raises:
            TbftError: something that the experiment, or the library, does not have.
        """
        if self.seeds == 0:
            raise TbftError("with 0 seeds there is nothing to run: give 1 or more")
        check_names("method", self.methods or (), METHODS)
        return cells(experiment, self.sizes, self.seeds, self.corruptions)


def run(
    settings: Settings,
    out: str | Path = "results",
    scope: Scope = Scope(),
    *,
    engine: str = "serial",
    workers: int | None = None,
    on_outcome: OnOutcome | None = None,
) -> Summary:
    """Do the runs of an experiment that are not recorded yet.

    Args:
        out: records go to ``out/<experiment>-<hash>/``.
        workers: processes of the engine ``pool``; None: one per core.
        on_outcome: called after every run, once its record is on the disk.

    Raises:
        TbftError: arguments that do not fit together.
    """
    from paper.bench import Bench

    experiment = find_experiment(settings.experiment, settings.quick)
    wanted_cells = scope.cells(experiment)
    check_names("engine", [engine], ENGINES)
    if workers == 0:
        raise TbftError("0 workers can do nothing: give 1 or more")
    bench = Bench(settings)
    identity = bench.identity()
    group = hashed(identity, 8)
    store = Store(Path(out) / f"{experiment.name}-{group}", {"identity": identity, "notes": list(NOTES)})
    methods = METHODS if scope.methods is None else scope.methods
    if bench.device.type != "cpu" and "ours" in methods:
        raise TbftError("ours chooses by processor time: run it with --device cpu, and leave it out here")
    definitions = bench.definitions()
    wanted = [run for cell in wanted_cells for run in runs_of(group, cell, methods, definitions)]
    recorded = store.done() | _recorded_with_another_recipe(wanted, bench, Path(out))
    todo = [run for run in wanted if run.id not in recorded]
    done, failed = 0, []
    work = Work(settings, engine, commit())
    with store.claims() as claim:
        every = outcomes(work, todo, workers, bench, is_free=lambda run: claim(run.id))
        for finished, outcome in enumerate(every, start=1):
            if outcome.record is not None:
                done += store.append(outcome.record)
            elif outcome.reason:
                failed.append(outcome)
            if on_outcome is not None:
                on_outcome(finished, len(todo), outcome)
    return Summary(store.folder, len(wanted), done, tuple(failed))


def check_names(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Refuse an unknown name."""
    for name in given:
        if name not in known:
            raise TbftError(unknown(kind, name, known))


def _recorded_with_another_recipe(runs: Sequence[Run], bench: Bench, out: Path) -> set[str]:
    """The ids of those runs that do not depend on the recipe and are recorded under another one."""
    identity, found = bench.identity(), set()
    for name in RECIPES:
        group = hashed({**identity, "recipe": recipe_identity(bench.recipe(name))}, 8)
        recorded = done_in(out / f"{bench.experiment.name}-{group}")
        free = [run for run in runs if run.method in RECIPE_FREE]
        found |= {run.id for run in free if replace(run, group=group).id in recorded}
    return found


def describe(run: Run) -> str:
    """A run in a few words, such as for a progress bar.

    >>> from paper.runs import Cell
    >>> describe(Run("", Cell("fog:5", None, 10, 0), "front"))
    'fog:5, 10 %, seed 0: front'
    """
    cell = run.cell
    parts: list[Any] = [cell.drift, cell.noised and f"noise on {cell.noised}", f"{cell.size} %"]
    return ", ".join([str(p) for p in parts if p] + [f"seed {cell.seed}"]) + f": {run.method}"
