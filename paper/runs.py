"""Runs: an experiment expands into cells, a cell into runs; each run is known by a hash of its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from paper.experiments import CORRUPTIONS, Experiment
from paper.identity import hashed
from tbft import TbftError
from tbft.errors import unknown


@dataclass(frozen=True)
class Settings:
    """What all runs of one folder share; a worker loads its own copy of the base model and data from it.

    Attributes:
        weights, card: files; None: the weights that ship with the model, or no card.
        data: files; `data_name` is what tables call them.
        test_data_given: whether the test set replaces the experiment's own.
        device: where the model is; it is not part of a run's identity, as accuracy does not depend on it.
    """

    experiment: str
    recipe: str
    model: str
    weights: str | None
    data: tuple[str, ...]
    test_data: str | None = None
    test_data_given: bool = False
    class_map: str | None = None
    card: str | None = None
    data_name: str = ""
    quick: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Cell:
    """What methods are compared on: one drift, one size, one split."""

    drift: str | None
    noised: str | None
    size: int
    seed: int


@dataclass(frozen=True)
class Run:
    """One method in one cell.

    Attributes:
        group: the hash in the folder's name.
        definition: a hash of what the method depends on beside the folder's recipe, such as the recipe
            ``fast`` for ``ours``; with another definition it is another run.
    """

    group: str
    cell: Cell
    method: str
    definition: str = ""

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits, unique to the run."""
        return hashed(asdict(self))


def cells(
    experiment: Experiment,
    sizes: Sequence[int] | None = None,
    seeds: int | None = None,
    corruptions: Sequence[str] | None = None,
) -> list[Cell]:
    """The cells of an experiment: all drifts for the first size and seed, then for the next seed, and so on.

    Args:
        sizes, seeds, corruptions: in place of the experiment's own.

    Raises:
        TbftError: a size or corruption that the experiment does not have.
    """
    chosen = list(experiment.sizes if sizes is None else dict.fromkeys(sizes))
    for size in chosen:
        if size not in experiment.sizes:
            raise TbftError(unknown("size", str(size), map(str, experiment.sizes)))
    drifts = _drifts(experiment, corruptions)
    return [
        Cell(drift, noised, size, seed)
        for size in chosen
        for seed in range(experiment.seeds if seeds is None else seeds)
        for drift in drifts
        for noised in experiment.noised
    ]


def _drifts(experiment: Experiment, corruptions: Sequence[str] | None) -> Sequence[str | None]:
    if corruptions is None:
        return experiment.drifts
    if experiment.level != "input":
        raise TbftError(f"{experiment.name} has no corruptions to choose from: leave --corruptions out")
    for name in corruptions:
        if name not in CORRUPTIONS:
            raise TbftError(unknown("corruption", name, CORRUPTIONS))
    return [f"{name}:5" for name in dict.fromkeys(corruptions)]


def runs_of(
    group: str, cell: Cell, methods: Sequence[str], definitions: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """A run for each method of a cell."""
    for method in dict.fromkeys(methods):
        yield Run(group, cell, method, (definitions or {}).get(method, ""))
