"""Which figures the records have for a claim, and which records are missing. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from paper.experiments import EXPERIMENTS
from paper.tables import Figure, Table

#: The experiment on each level, and what replaces it if it has no records.
LEVELS = {"input": ("cifar10-c",), "feature": ("living17", "tiny17"), "output": ("cifar-flip",)}
SIZES = ("10 %", "20 %", "30 %")

Known = Mapping[tuple[str, str], Table]
Sizes = dict[str, list[tuple[Figure, Figure]]]


def known_tables(tables: Iterable[Table]) -> Known:
    """(experiment, recipe) -> table, without quick ones."""
    weighed = sorted((table for table in tables if not table.quick), key=_weight)
    return {(table.experiment, table.recipe): table for table in weighed}


def _weight(table: Table) -> tuple[int, bool]:
    """Of several base models, the one with the most records counts; in a tie, the paper's."""
    count = sum(len(figure.runs) for row in table.figures.values() for figure in row.values())
    return count, table.model == EXPERIMENTS[table.experiment].model


def paper_best(name: str) -> str:
    """The block that the paper finds best in an experiment; only for experiments that have one."""
    best = EXPERIMENTS[name].paper_best
    assert best is not None, name
    return best


def figures_at(
    known: Known, name: str, column: str, methods: Iterable[str], recipe: str = "paper"
) -> tuple[dict[str, Figure], str]:
    """The figures of some methods with a recipe, or what is missing."""
    table, place = known.get((name, recipe)), f"{name} at {column}, recipe {recipe}"
    if table is None or column not in table.columns:
        return {}, place
    if not table.complete[column]:
        return {}, f"{place}: some drifts"
    cells = {method: table.figure(method, column) for method in methods}
    absent = [method for method, figure in cells.items() if figure is None]
    if absent:
        return {}, f"{place}: {', '.join(absent)}"
    return {method: figure for method, figure in cells.items() if figure is not None}, ""


def level_figures(
    known: Known, level: str, methods: Sequence[str]
) -> tuple[str, dict[str, dict[str, Figure]], str]:
    """The experiment on a level, size -> method -> figure for the complete sizes, and what is missing."""
    names = LEVELS[level]
    checked = {name: {size: figures_at(known, name, size, methods) for size in SIZES} for name in names}
    incomplete = {
        name: sum(bool(missing) for _, missing in sizes.values()) for name, sizes in checked.items()
    }
    usable = [name for name in names if incomplete[name] < len(SIZES)] or names[-1:]
    name = min(usable, key=incomplete.__getitem__)
    if (name, "paper") not in known:
        return name, {}, f"{name}, recipe paper"
    by_size = {size: figures for size, (figures, missing) in checked[name].items() if not missing}
    return name, by_size, "; ".join(missing for _, missing in checked[name].values() if missing)


def all_levels(known: Known, method: str | None, other: str) -> tuple[list[str], Sizes, str]:
    """The sizes that all levels have: size -> (figure of the method, of the other one) for each level.

    Args:
        method: None: the block that the paper finds best at each level.

    Returns:
        The experiments, the figures, and what is missing.
    """
    names, by_level, missing = [], [], []
    for level, (first, *_) in LEVELS.items():
        own = method or paper_best(first)
        name, by_size, absent = level_figures(known, level, (own, other))
        names.append(name)
        by_level.append({size: (figures[own], figures[other]) for size, figures in by_size.items()})
        missing += [absent] if absent else []
    common = [size for size in SIZES if all(size in by_size for by_size in by_level)]
    return names, {size: [by_size[size] for by_size in by_level] for size in common}, "; ".join(missing)


def over_sizes(figures: Sequence[Figure]) -> Figure:
    """The mean of a method's figures over sizes, for the seeds that all sizes have."""
    seeds = set(figures[0].by_seed).intersection(*(f.by_seed for f in figures))
    return replace(
        figures[0],
        accuracy=fmean(f.accuracy for f in figures),
        half_width=None,
        by_seed={seed: fmean(f.by_seed[seed] for f in figures) for seed in sorted(seeds)},
        runs=tuple(run for f in figures for run in f.runs),
    )
