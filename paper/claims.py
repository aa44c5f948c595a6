"""What the paper claims, checked on our records: pure functions of tables. No torch here.

A claim is about one number: how many points, columns or percent. It holds if ours is as the claim says; if
records are missing it says which, and nothing is guessed. One over several sizes is checked at those that
have their records, names them, and stands beside the paper's figure of the same sizes. Quick records are
not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from paper.experiments import BLOCK_METHODS, EXPERIMENTS, RECIPES
from paper.published import BLOCK_AVERAGE, paper, published
from paper.statistics import interval
from paper.tables import Figure, Table

#: The experiment of each level, and what stands in for it where it has no records.
LEVELS = {"input": ("cifar10-c",), "feature": ("living17", "tiny17"), "output": ("cifar-flip",)}
SIZES = ("10 %", "20 %", "30 %")
#: A difference in accuracy that counts as none, in points.
NOTHING = 0.5
#: Of a published gain or saving, what ours has to reach.
REACHED = 0.9


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        unit: of the two numbers.
        published: from the paper's own figures; None: it makes no such claim, the claim is ours.
        ours: from the records; None where some are missing.
        half_width: of ours, 95 % over seeds; None of one seed, or where it is not a mean over seeds.
        holds: None where records are missing, or too few to tell.
        missing: which, in words; also of a claim that was checked at some of the sizes.
        records: ids of those it rests on.
    """

    claim: str
    unit: str
    published: float | None
    ours: float | None
    holds: bool | None
    half_width: float | None = None
    missing: str = ""
    records: tuple[str, ...] = ()


def claims_of(tables: Sequence[Table], costs: Sequence[Mapping[str, Any]] = ()) -> list[Claim]:
    """Every claim, checked as far as the tables go.

    Args:
        costs: the files of the experiment ``system-cost``, as they are.
    """
    known: dict[tuple[str, str], Table] = {}
    for table in sorted((t for t in tables if not t.quick), key=_weight):
        known[table.experiment, table.recipe] = table
    made = [_right_block(known, name, size) for name, size in _places()]
    made.append(_diagonal(known))
    made += [_as_good_as_full(known, level) for level in LEVELS]
    made.append(_gain(known, None, "the right block"))
    made.append(_saving_of_a_step([one for one in costs if not one["quick"]]))
    made.append(_saving(known, BLOCK_AVERAGE, paper()["headline"]["energy_saving_vs_full_pct"]))
    made.append(_gain(known, "ours", "ours, which finds the block by itself,"))
    made += [_ours_as_good_as_full(known, level) for level in LEVELS]
    made.append(_saving(known, "ours", None))
    return made


def to_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Plain values, for ``claims.json``."""
    return [{**asdict(claim), "records": list(claim.records)} for claim in claims]


Known = Mapping[tuple[str, str], Table]
Sizes = dict[str, list[tuple[Figure, Figure]]]


def _weight(table: Table) -> tuple[int, bool]:
    """Of several bases, the one with the most records counts; of as many, the paper's."""
    count = sum(len(figure.runs) for row in table.figures.values() for figure in row.values())
    return count, table.model == EXPERIMENTS[table.experiment].model


def _places() -> list[tuple[str, str]]:
    names = [e for e in EXPERIMENTS.values() if e.right is not None]
    return [(e.name, f"{size} %") for e in names for size in e.sizes]


def _right_block(known: Known, name: str, size: str) -> Claim:
    """At one level and size: the right block, against the best of the others."""
    experiment = EXPERIMENTS[name]
    right = experiment.right or ""
    words = f"{experiment.level} level, {name}, {size}: {right} is the best single block; lead over the next"
    printed = published(name)
    paper_says = None
    if printed:
        shares = {method: printed[method][size][0] for method in BLOCK_METHODS}
        paper_says = _points(shares[right] - max(v for m, v in shares.items() if m != right))
    found, missing = _figures(known, name, size, BLOCK_METHODS)
    if missing:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    second = max((m for m in BLOCK_METHODS if m != right), key=lambda m: found[m].accuracy)
    return _told(_difference(words, paper_says, found[right], found[second], above=0.0))


def _told(lead: Claim) -> Claim:
    """A lead that chance may have made is neither: it is within its interval, or small and of one seed."""
    chance = NOTHING if lead.half_width is None else lead.half_width
    if lead.ours is None or abs(lead.ours) > chance:
        return lead
    return replace(lead, holds=None, missing="more seeds: so small a lead may be chance")


def _figures(
    known: Known, name: str, column: str, methods: Iterable[str], recipe: str = "paper"
) -> tuple[dict[str, Figure], str]:
    """The figures of some methods with a recipe, or what of them is missing."""
    table, place = known.get((name, recipe)), f"{name} at {column}, recipe {recipe}"
    if table is None or column not in table.columns:
        return {}, place
    if not table.complete[column]:
        return {}, f"{place}: some drifts"
    found = {method: table.figure(method, column) for method in methods}
    absent = [method for method, figure in found.items() if figure is None]
    if absent:
        return {}, f"{place}: {', '.join(absent)}"
    return {method: figure for method, figure in found.items() if figure is not None}, ""


def _difference(words: str, paper_says: float | None, one: Figure, other: Figure, above: float) -> Claim:
    """Of two figures of the same seeds, in points; it holds if it is above a bound."""
    seeds = sorted(set(one.by_seed) & set(other.by_seed))
    if not seeds:
        return Claim(words, "points", paper_says, None, None, missing="a seed that both have")
    mean, half_width = interval([100 * (one.by_seed[s] - other.by_seed[s]) for s in seeds])
    return Claim(
        words,
        "points",
        paper_says,
        ours=round(mean, 2),
        holds=mean > above,
        half_width=None if half_width is None else round(half_width, 2),
        records=tuple(dict.fromkeys(one.runs + other.runs)),
    )


def _diagonal(known: Known) -> Claim:
    """With the paper's recipe, or else with ours: at full length the paper's takes hours a seed."""
    name = "noise-motivation"

    def lacking(recipe: str) -> int:
        return sum(bool(_figures(known, name, noised, BLOCK_METHODS, recipe)[1]) for noised in BLOCK_METHODS)

    recipe = min(RECIPES, key=lacking)  # the first of those that lack least
    words = f"noise on one block: tuning that block beats every other one; columns of four (recipe {recipe})"
    printed = published(name)
    paper_says = sum(
        max(BLOCK_METHODS, key=lambda m: printed[m][noised][0]) == noised for noised in BLOCK_METHODS
    )
    won, ids = 0, []
    for noised in BLOCK_METHODS:
        found, missing = _figures(known, name, noised, BLOCK_METHODS, recipe)
        if missing:
            return Claim(words, "columns", paper_says, None, None, missing=missing)
        won += max(found, key=lambda m: found[m].accuracy) == noised
        ids += [run for figure in found.values() for run in figure.runs]
    return Claim(words, "columns", paper_says, won, won == len(BLOCK_METHODS), records=tuple(ids))


def _level(known: Known, level: str, methods: Sequence[str]) -> tuple[str, dict[str, dict[str, Figure]], str]:
    """The experiment of a level, size -> method -> figure of the sizes that have all, and what is missing."""
    names = LEVELS[level]
    checked = {name: {size: _figures(known, name, size, methods) for size in SIZES} for name in names}
    lacking = {name: sum(bool(missing) for _, missing in sizes.values()) for name, sizes in checked.items()}
    begun = [name for name in names if lacking[name] < len(SIZES)] or names[-1:]
    name = min(begun, key=lacking.__getitem__)
    if (name, "paper") not in known:
        return name, {}, f"{name}, recipe paper"
    found = {size: figures for size, (figures, missing) in checked[name].items() if not missing}
    return name, found, "; ".join(missing for _, missing in checked[name].values() if missing)


def _levels(known: Known, method: str | None, other: str) -> tuple[list[str], Sizes, str]:
    """Of the sizes that all levels have: size -> (method's figure, the other's) of each level.

    Args:
        method: None: each level's right block.

    Returns:
        The experiments, the figures, and what is missing.
    """
    names, by_level, missing = [], [], []
    for level, (first, *_) in LEVELS.items():
        own = method or EXPERIMENTS[first].right or ""
        name, found, absent = _level(known, level, (own, other))
        names.append(name)
        by_level.append({size: (figures[own], figures[other]) for size, figures in found.items()})
        missing += [absent] if absent else []
    common = [size for size in SIZES if all(size in found for found in by_level)]
    return names, {size: [found[size] for found in by_level] for size in common}, "; ".join(missing)


def _at(sizes: Iterable[str]) -> str:
    return f"at {', '.join(sizes)}"


def _as_good_as_full(known: Known, level: str) -> Claim:
    right = EXPERIMENTS[LEVELS[level][0]].right or ""
    return _against_full(known, level, right, f"{level} level: {right}", is_papers=True)


def _ours_as_good_as_full(known: Known, level: str) -> Claim:
    return _against_full(known, level, "ours", f"{level} level: ours", is_papers=False)


def _against_full(known: Known, level: str, method: str, who: str, is_papers: bool) -> Claim:
    """Accuracy against full fine-tuning, over the sizes that have both."""
    name, found, missing = _level(known, level, (method, "full"))
    sizes = list(found) or SIZES
    words = f"{who} is at least as accurate as full fine-tuning, to half a point, {_at(sizes)} ({name})"
    paper_says = None
    if is_papers:
        printed = published(LEVELS[level][0])
        paper_says = _points(fmean(printed[method][s][0] - printed["full"][s][0] for s in sizes))
    if not found:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    one, other = (_over_sizes([figures[m] for figures in found.values()]) for m in (method, "full"))
    checked = _difference(words, paper_says, one, other, above=-NOTHING)
    return replace(checked, missing=checked.missing or missing)


def _over_sizes(figures: Sequence[Figure]) -> Figure:
    """The mean of a method's figures over sizes, by the seeds that all sizes have."""
    seeds = set(figures[0].by_seed).intersection(*(f.by_seed for f in figures))
    return replace(
        figures[0],
        accuracy=fmean(f.accuracy for f in figures),
        half_width=None,
        by_seed={seed: fmean(f.by_seed[seed] for f in figures) for seed in sorted(seeds)},
        runs=tuple(run for f in figures for run in f.runs),
    )


def _gain(known: Known, method: str | None, who: str) -> Claim:
    """Accuracy over the block average, over levels and sizes; of the right block, if no method is named."""
    names, found, missing = _levels(known, method, BLOCK_AVERAGE)
    sizes = list(found) or SIZES
    words = f"{who} gains over the block average, over three levels {_at(sizes)} ({', '.join(names)})"
    paper_says = _published_gain(sizes) if method is None else None
    if not found:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    pairs = [pair for by_level in found.values() for pair in by_level]
    ours = fmean(100 * (one.accuracy - other.accuracy) for one, other in pairs)
    bound = 0.0 if paper_says is None else REACHED * paper_says
    return Claim(
        words, "points", paper_says, round(ours, 2), ours >= bound, missing=missing, records=_runs(pairs)
    )


def _published_gain(sizes: Sequence[str]) -> float:
    """The paper's headline, or the same of fewer sizes from its tables."""
    if len(sizes) == len(SIZES):
        return float(paper()["headline"]["accuracy_gain_over_block_avg_pp"])
    gains = []
    for first, *_ in LEVELS.values():
        printed = published(first)
        gains += [printed[EXPERIMENTS[first].right or ""][s][0] - printed[BLOCK_AVERAGE][s][0] for s in sizes]
    return _points(fmean(gains))


def _saving_of_a_step(costs: Sequence[Mapping[str, Any]]) -> Claim:
    """What the paper's timing script would say here: one sample, one epoch, mean over blocks and models."""
    words = "tuning one block (block average) saves of full's time in one step, as the paper times it"
    paper_says = paper()["headline"]["energy_saving_vs_full_pct"]
    latest = {one["model"]: one for one in sorted(costs, key=lambda one: str(one["finished"]))}
    absent = [name for name in ("resnet26-cifar10", "resnet26-living17") if name not in latest]
    if absent:
        return Claim(words, "%", paper_says, None, None, missing=f"system-cost of {' and '.join(absent)}")
    savings = []
    for one in latest.values():
        rows = one["system"]["one sample, one epoch"]
        own = next(row for row in rows if row["way"] == "substring")
        savings.append(own["saving_percent"][one["system_columns"].index("block_avg")])
    ours = fmean(savings)
    names = tuple(f"system-cost-{name}.json" for name in latest)
    return Claim(words, "%", paper_says, round(ours, 2), ours >= REACHED * paper_says, records=names)


def _saving(known: Known, method: str, paper_says: float | None) -> Claim:
    """Processor time saved against full fine-tuning, over the runs of the accuracy tables."""
    who = "tuning one block (block average)" if method == BLOCK_AVERAGE else "ours, its choosing included,"
    names, found, missing = _levels(known, method, "full")
    sizes = _at(list(found) or SIZES)
    words = (
        f"{who} saves of full fine-tuning's processor time, over three levels {sizes} ({', '.join(names)})"
    )
    pairs = [pair for by_level in found.values() for pair in by_level]
    ratios = [one.cpu_ratio for one, _ in pairs if one.cpu_ratio is not None]
    if not found or len(ratios) < len(pairs):
        return Claim(words, "%", paper_says, None, None, missing=missing or "cells that both have")
    ours = 100 * (1 - fmean(ratios))
    bound = 0.0 if paper_says is None else REACHED * paper_says
    return Claim(words, "%", paper_says, round(ours, 2), ours >= bound, missing=missing, records=_runs(pairs))


def _runs(pairs: Iterable[tuple[Figure, Figure]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run for pair in pairs for figure in pair for run in figure.runs))


def _points(share: float) -> float:
    return round(100 * share, 2)
