"""What the paper claims, checked on our records: pure functions of tables. No torch here.

A claim is about one number: how many points, columns or per cent. It holds if ours is as the claim says; if
records are missing it says which, and nothing is guessed. Quick records are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tbft.reproduce.experiments import BLOCK_METHODS, EXPERIMENTS
from tbft.reproduce.statistics import interval
from tbft.reproduce.tables import BLOCK_AVERAGE, Figure, Table, paper, published

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
        holds: None where records are missing.
        missing: which, in words.
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


def claims_of(tables: Sequence[Table]) -> list[Claim]:
    """Every claim, checked as far as the tables go."""
    known: dict[tuple[str, str], Table] = {}
    for table in sorted((t for t in tables if not t.quick), key=_weight):
        known[table.experiment, table.recipe] = table
    made = [_right_block(known, name, size) for name, size in _places()]
    made.append(_diagonal(known))
    made += [_as_good_as_full(known, level) for level in LEVELS]
    made.append(_gain(known, None, "the right block", paper()["headline"]["accuracy_gain_over_block_avg_pp"]))
    made.append(_saving(known, BLOCK_AVERAGE, paper()["headline"]["energy_saving_vs_full_pct"]))
    made.append(_gain(known, "ours", "ours, which finds the block by itself,", None))
    made += [_ours_as_good_as_full(known, level) for level in LEVELS]
    made.append(_saving(known, "ours", None))
    return made


def to_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Plain values, for ``claims.json``."""
    return [{**asdict(claim), "records": list(claim.records)} for claim in claims]


Known = Mapping[tuple[str, str], Table]


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
    return _difference(words, paper_says, found[right], found[second], above=0.0)


def _figures(known: Known, name: str, column: str, methods: Iterable[str]) -> tuple[dict[str, Figure], str]:
    """The figures of some methods with the paper's recipe, or what of them is missing."""
    table = known.get((name, "paper"))
    if table is None or column not in table.columns:
        return {}, f"{name} at {column}, recipe paper"
    if not table.complete[column]:
        return {}, f"{name} at {column}, recipe paper: some drifts"
    found = {method: table.figure(method, column) for method in methods}
    absent = [method for method, figure in found.items() if figure is None]
    if absent:
        return {}, f"{name} at {column}, recipe paper: {', '.join(absent)}"
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
    words = "noise on one block: tuning that block beats every other one; columns of four where it does"
    printed = published("noise-motivation")
    paper_says = sum(
        max(BLOCK_METHODS, key=lambda m: printed[m][noised][0]) == noised for noised in BLOCK_METHODS
    )
    won, ids = 0, []
    for noised in BLOCK_METHODS:
        found, missing = _figures(known, "noise-motivation", noised, BLOCK_METHODS)
        if missing:
            return Claim(words, "columns", paper_says, None, None, missing=missing)
        won += max(found, key=lambda m: found[m].accuracy) == noised
        ids += [run for figure in found.values() for run in figure.runs]
    return Claim(words, "columns", paper_says, won, won == len(BLOCK_METHODS), records=tuple(ids))


def _level(known: Known, level: str, methods: Sequence[str]) -> tuple[str, dict[str, dict[str, Figure]], str]:
    """The experiment of a level, size -> method -> figure, and what is missing of it."""
    names = LEVELS[level]
    name = next((n for n in names if (n, "paper") in known), names[-1])
    found = {}
    for size in SIZES:
        found[size], missing = _figures(known, name, size, methods)
        if missing:
            return name, {}, missing
    return name, found, ""


def _as_good_as_full(known: Known, level: str) -> Claim:
    right = EXPERIMENTS[LEVELS[level][0]].right or ""
    printed = published(LEVELS[level][0])
    paper_says = _points(fmean(printed[right][s][0] - printed["full"][s][0] for s in SIZES))
    words = "is at least as accurate as full fine-tuning, to half a point, over the three sizes"
    return _against_full(known, level, right, f"{level} level: {right} {words}", paper_says)


def _ours_as_good_as_full(known: Known, level: str) -> Claim:
    words = f"{level} level: ours is at least as accurate as full, to half a point, over the three sizes"
    return _against_full(known, level, "ours", words, None)


def _against_full(known: Known, level: str, method: str, words: str, paper_says: float | None) -> Claim:
    name, found, missing = _level(known, level, (method, "full"))
    words = f"{words} ({name})"
    if missing:
        return Claim(words, "points", paper_says, None, None, missing=missing)
    return _difference(
        words, paper_says, _over_sizes(found, method), _over_sizes(found, "full"), above=-NOTHING
    )


def _over_sizes(found: Mapping[str, Mapping[str, Figure]], method: str) -> Figure:
    """The mean of a method's figures over sizes, by the seeds that all sizes have."""
    figures = [by_method[method] for by_method in found.values()]
    seeds = set(figures[0].by_seed).intersection(*(f.by_seed for f in figures))
    by_seed = {seed: fmean(f.by_seed[seed] for f in figures) for seed in sorted(seeds)}
    first = figures[0]
    return Figure(
        accuracy=fmean(f.accuracy for f in figures),
        half_width=None,
        by_seed=by_seed,
        cpu_seconds=first.cpu_seconds,
        cpu_ratio=None,
        energy_joules=None,
        energy_kind="unavailable",
        runs=tuple(run for f in figures for run in f.runs),
    )


def _gain(known: Known, method: str | None, words: str, paper_says: float | None) -> Claim:
    """Accuracy over the block average, over levels and sizes; of the right block, if no method is named."""
    gains, ids, names = [], [], []
    words = f"{words} gains over the block average, over three levels and three sizes"
    for level, (first, *_) in LEVELS.items():
        own = method or EXPERIMENTS[first].right or ""
        name, found, missing = _level(known, level, (own, BLOCK_AVERAGE))
        names.append(name)
        if missing:
            return Claim(words, "points", paper_says, None, None, missing=missing)
        for by_method in found.values():
            gains.append(100 * (by_method[own].accuracy - by_method[BLOCK_AVERAGE].accuracy))
            ids += [*by_method[own].runs, *by_method[BLOCK_AVERAGE].runs]
    ours = fmean(gains)
    bound = 0.0 if paper_says is None else REACHED * paper_says
    words = f"{words} ({', '.join(names)})"
    return Claim(
        words, "points", paper_says, round(ours, 2), ours >= bound, records=tuple(dict.fromkeys(ids))
    )


def _saving(known: Known, method: str, paper_says: float | None) -> Claim:
    """Processor time saved against full fine-tuning, over the runs of the accuracy tables."""
    who = "tuning one block (block average)" if method == BLOCK_AVERAGE else "ours, its choosing included,"
    words = f"{who} saves of full fine-tuning's processor time, over three levels and three sizes"
    savings, ids = [], []
    for level in LEVELS:
        _, found, missing = _level(known, level, (method, "full"))
        if missing:
            return Claim(words, "%", paper_says, None, None, missing=missing)
        for by_method in found.values():
            ratio = by_method[method].cpu_ratio
            if ratio is None:
                return Claim(words, "%", paper_says, None, None, missing="cells that both have")
            savings.append(100 * (1 - ratio))
            ids += [*by_method[method].runs, *by_method["full"].runs]
    ours = fmean(savings)
    bound = 0.0 if paper_says is None else REACHED * paper_says
    return Claim(words, "%", paper_says, round(ours, 2), ours >= bound, records=tuple(dict.fromkeys(ids)))


def _points(share: float) -> float:
    return round(100 * share, 2)
