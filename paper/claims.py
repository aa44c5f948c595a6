"""The paper's claims, checked against our records: pure functions of tables. No torch here.

A claim is about one number: points, columns or percent. It holds if our number is as the claim says; if
records are missing, it says which, and nothing is guessed. A claim over several sizes is checked at the sizes
that have records, names them, and is compared with the paper's figure for the same sizes. Quick records are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from paper.available import (
    LEVELS,
    SIZES,
    Known,
    all_levels,
    figures_at,
    known_tables,
    level_figures,
    over_sizes,
    paper_best,
)
from paper.experiments import BLOCK_METHODS, EXPERIMENTS, RECIPES
from paper.published import BLOCK_AVERAGE, paper, published
from paper.statistics import interval
from paper.tables import Figure, Table

#: Differences in accuracy up to this, in points, count as none.
NEGLIGIBLE = 0.5
#: Fraction of a published gain or saving that ours has to reach.
REQUIRED = 0.9


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        unit: unit of both numbers.
        published: from the paper's own figures; None: the claim is ours, not the paper's.
        ours: from the records; None if some are missing.
        half_width: half the width of our 95 % interval over seeds; None for one seed, or if it is not a mean
            over seeds.
        holds: None if records are missing, or too few to tell.
        missing: what records are missing; also for a claim that was checked at some of the sizes.
        records: ids of the records it rests on.
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
    """Every claim, checked as far as the tables allow.

    Args:
        costs: contents of the files of the experiment ``system-cost``.
    """
    known = known_tables(tables)
    made = [_best_block(known, name, size) for name, size in _experiments_and_sizes()]
    made.append(_diagonal(known))
    made += [_as_good_as_full(known, level) for level in LEVELS]
    made.append(_gain(known, None, "the paper's block"))
    made.append(_saving_of_a_step([one for one in costs if not one["quick"]]))
    made.append(_saving(known, BLOCK_AVERAGE, paper()["headline"]["energy_saving_vs_full_pct"]))
    made.append(_gain(known, "ours", "ours, which chooses on its own,"))
    made += [_ours_as_good_as_full(known, level) for level in LEVELS]
    made.append(_saving(known, "ours", None))
    return made


def to_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Plain values, for ``claims.json``."""
    return [{**asdict(claim), "records": list(claim.records)} for claim in claims]


def text_of(claims: Sequence[Claim]) -> str:
    """The claims for the terminal, one per line."""
    verdicts = {True: "holds", False: "does not hold", None: "open"}
    lines = []
    for claim in claims:
        published = "-" if claim.published is None else f"{claim.published:g}"
        words = [] if claim.ours is None else [f"published {published}, ours {claim.ours:g} {claim.unit}"]
        words += [f"needs {claim.missing}"] if claim.holds is None else []
        lines.append(f"{verdicts[claim.holds]:14}{claim.claim}: {'; '.join(words)}")
    return "\n".join(lines)


def _experiments_and_sizes() -> list[tuple[str, str]]:
    names = [e for e in EXPERIMENTS.values() if e.paper_best is not None]
    return [(e.name, f"{size} %") for e in names for size in e.sizes]


def _best_block(known: Known, name: str, size: str) -> Claim:
    """At one level and size: the block that the paper finds best, against the best of the others."""
    experiment, best = EXPERIMENTS[name], paper_best(name)
    words = f"{experiment.level} level, {name}, {size}: {best} is the best single block; lead over the next"
    printed = published(name)
    paper_says = None
    if printed:
        accuracies = {method: printed[method][size][0] for method in BLOCK_METHODS}
        paper_says = _points(accuracies[best] - max(v for m, v in accuracies.items() if m != best))
    figures, missing = figures_at(known, name, size, BLOCK_METHODS)
    if missing:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    second = max((m for m in BLOCK_METHODS if m != best), key=lambda m: figures[m].accuracy)
    return _open_if_chance(_difference(words, paper_says, figures[best], figures[second], above=0.0))


def _open_if_chance(lead: Claim) -> Claim:
    """Leave a claim open if its lead lies within the interval, or is negligible and rests on one seed."""
    chance = NEGLIGIBLE if lead.half_width is None else lead.half_width
    if lead.ours is None or abs(lead.ours) > chance:
        return lead
    return replace(lead, holds=None, missing="more seeds: a lead this small may be chance")


def _difference(words: str, paper_says: float | None, one: Figure, other: Figure, above: float) -> Claim:
    """The difference of two figures over their common seeds, in points; it holds if above a bound."""
    seeds = sorted(set(one.by_seed) & set(other.by_seed))
    if not seeds:
        return Claim(words, "points", paper_says, None, None, missing="a seed in common")
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
    """With the paper's recipe, or else with ours: at full length the paper's takes hours per seed."""
    name = "noise-motivation"

    def incomplete(recipe: str) -> int:
        return sum(
            bool(figures_at(known, name, noised, BLOCK_METHODS, recipe)[1]) for noised in BLOCK_METHODS
        )

    recipe = min(RECIPES, key=incomplete)
    words = f"noise on one block: tuning that block beats tuning any other; columns of four (recipe {recipe})"
    printed = published(name)
    paper_says = sum(
        max(BLOCK_METHODS, key=lambda m: printed[m][noised][0]) == noised for noised in BLOCK_METHODS
    )
    won, ids = 0, []
    for noised in BLOCK_METHODS:
        figures, missing = figures_at(known, name, noised, BLOCK_METHODS, recipe)
        if missing:
            return Claim(words, "columns", paper_says, None, None, missing=missing)
        won += max(figures, key=lambda m: figures[m].accuracy) == noised
        ids += [run for figure in figures.values() for run in figure.runs]
    return Claim(words, "columns", paper_says, won, won == len(BLOCK_METHODS), records=tuple(ids))


def _at(sizes: Iterable[str]) -> str:
    return f"at {', '.join(sizes)}"


def _as_good_as_full(known: Known, level: str) -> Claim:
    best = paper_best(LEVELS[level][0])
    return _against_full(known, level, best, f"{level} level: {best}", is_papers=True)


def _ours_as_good_as_full(known: Known, level: str) -> Claim:
    return _against_full(known, level, "ours", f"{level} level: ours", is_papers=False)


def _against_full(known: Known, level: str, method: str, who: str, is_papers: bool) -> Claim:
    """Accuracy against full fine-tuning, over the sizes that have both."""
    name, by_size, missing = level_figures(known, level, (method, "full"))
    sizes = list(by_size) or SIZES
    words = f"{who} is at least as accurate as full fine-tuning, within half a point, {_at(sizes)} ({name})"
    paper_says = None
    if is_papers:
        printed = published(LEVELS[level][0])
        paper_says = _points(fmean(printed[method][s][0] - printed["full"][s][0] for s in sizes))
    if not by_size:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    one, other = (over_sizes([figures[m] for figures in by_size.values()]) for m in (method, "full"))
    checked = _difference(words, paper_says, one, other, above=-NEGLIGIBLE)
    return replace(checked, missing=checked.missing or missing)


def _gain(known: Known, method: str | None, who: str) -> Claim:
    """Gain in accuracy over the block average, mean over levels and sizes.

    Args:
        method: None: the block that the paper finds best at each level.
    """
    names, by_size, missing = all_levels(known, method, BLOCK_AVERAGE)
    sizes = list(by_size) or SIZES
    words = f"{who} gains over the block average, over three levels {_at(sizes)} ({', '.join(names)})"
    paper_says = _published_gain(sizes) if method is None else None
    if not by_size:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    pairs = [pair for by_level in by_size.values() for pair in by_level]
    ours = fmean(100 * (one.accuracy - other.accuracy) for one, other in pairs)
    bound = 0.0 if paper_says is None else REQUIRED * paper_says
    return Claim(
        words, "points", paper_says, round(ours, 2), ours >= bound, missing=missing, records=_runs(pairs)
    )


def _published_gain(sizes: Sequence[str]) -> float:
    """The paper's headline, or the same for fewer sizes, from its tables."""
    if len(sizes) == len(SIZES):
        return float(paper()["headline"]["accuracy_gain_over_block_avg_pp"])
    gains = []
    for first, *_ in LEVELS.values():
        printed = published(first)
        gains += [printed[paper_best(first)][s][0] - printed[BLOCK_AVERAGE][s][0] for s in sizes]
    return _points(fmean(gains))


def _saving_of_a_step(costs: Sequence[Mapping[str, Any]]) -> Claim:
    """What the paper's timing script would print here: one sample, one epoch, mean over blocks and models."""
    words = (
        "time saved by tuning one block (block average) instead of all, in one step, as the paper times it"
    )
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
    return Claim(words, "%", paper_says, round(ours, 2), ours >= REQUIRED * paper_says, records=names)


def _saving(known: Known, method: str, paper_says: float | None) -> Claim:
    """Processor time saved against full fine-tuning, over the runs of the accuracy tables."""
    who = "tuning one block (block average)" if method == BLOCK_AVERAGE else "ours, its choosing included"
    names, by_size, missing = all_levels(known, method, "full")
    # Sizes at which a level was run on a GPU alone have no cost.
    by_size = {s: pairs for s, pairs in by_size.items() if all(one.cpu_ratio is not None for one, _ in pairs)}
    words = (
        f"processor time saved by {who}, against full fine-tuning, over three levels "
        f"{_at(list(by_size) or SIZES)} ({', '.join(names)})"
    )
    pairs = [pair for by_level in by_size.values() for pair in by_level]
    ratios = [one.cpu_ratio for one, _ in pairs if one.cpu_ratio is not None]
    if not by_size:
        return Claim(words, "%", paper_says, None, None, missing=missing or "cells in common")
    ours = 100 * (1 - fmean(ratios))
    bound = 0.0 if paper_says is None else REQUIRED * paper_says
    return Claim(words, "%", paper_says, round(ours, 2), ours >= bound, missing=missing, records=_runs(pairs))


def _runs(pairs: Iterable[tuple[Figure, Figure]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run for pair in pairs for figure in pair for run in figure.runs))


def _points(share: float) -> float:
    return round(100 * share, 2)
