"""From records to tables: pure functions of plain values. No torch here.

A figure is a mean over seeds; the value of a seed is the mean over the drifts of the column, and a seed that
lacks one of them does not count. Accuracies are fractions from 0 to 1, the published ones too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from paper.experiments import (
    BLOCK_METHODS,
    EXPERIMENTS,
    METHODS,
    RECIPE_FREE,
    RECIPES,
    find_experiment,
)
from paper.published import BLOCK_AVERAGE, paper, published
from paper.records import Record
from paper.statistics import interval

#: Rows of every table, in this order.
ROWS = ("none", "adabn", *BLOCK_METHODS, BLOCK_AVERAGE, *METHODS[len(BLOCK_METHODS) + 2 :])


@dataclass(frozen=True)
class Figure:
    """What a method achieved in one column.

    Attributes:
        accuracy: mean over the seeds; `by_seed` holds their values.
        half_width: half the width of the 95 % confidence interval over seeds; None for one seed.
        cpu_seconds: mean per run, choosing included; for the whole test part if a method adapts to it. Runs
            on a GPU do not count; None if there are no others.
        cpu_ratio: processor seconds relative to ``full`` in the same cells, where both ran on the same kind
            of processor; None if they nowhere did.
        energy_joules: mean per run, if all runs have a figure of the same kind.
        runs: ids of the records.
    """

    accuracy: float
    half_width: float | None
    by_seed: Mapping[int, float]
    cpu_seconds: float | None
    cpu_ratio: float | None
    energy_joules: float | None
    energy_kind: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One experiment with one recipe and one base model, on one set of data.

    Attributes:
        paper_best: the block that the paper finds best; None: it names none.
        group: end of the name of the folder with the records that follow the recipe; empty: unknown.
        complete: column -> whether its means are over all drifts of the experiment.
        columns: training sizes such as ``10 %``; in noise-motivation, the block with the noise.
        figures: method -> column -> figure; ``block average`` is a method here.
        published: the same as printed in the paper, mean and half-width; empty: it has no such table.
        detail: column -> drift -> method -> figure, if there are several drifts.
        best: column -> the method with the highest mean; best_block: the same among single blocks.
    """

    experiment: str
    title: str
    level: str | None
    paper_best: str | None
    recipe: str
    model: str
    data: str
    quick: bool
    group: str
    complete: Mapping[str, bool]
    columns: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Figure]]
    published: Mapping[str, Mapping[str, tuple[float, float]]]
    detail: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    best: Mapping[str, str]
    best_block: Mapping[str, str]

    def figure(self, method: str, column: str) -> Figure | None:
        """A cell of the table; None if records are missing."""
        return self.figures.get(method, {}).get(column)

    def time_share(self, method: str) -> float | None:
        """Processor time relative to full fine-tuning, mean over the columns that have both."""
        ratios = [f.cpu_ratio for f in self.figures.get(method, {}).values() if f.cpu_ratio is not None]
        return fmean(ratios) if ratios else None

    @property
    def time_note(self) -> str:
        """Why a method takes more than full fine-tuning, if one does; else empty."""
        if all((self.time_share(method) or 0) <= 1 for method in self.figures):
            return ""
        return (
            "Shares above 100 %: this recipe makes full fine-tuning itself cheap, while what a method adds "
            "to it (choosing, or adapting to the whole test part) costs the same as ever."
        )


def tables_of(records: Iterable[Record]) -> list[Table]:
    """All tables that there are records for, in the order of the experiments; quick ones last.

    Methods that do not depend on the recipe, such as ``ours``, appear in the tables of all recipes.
    """
    known = [record for record in records if record["experiment"] in EXPERIMENTS]
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Record]] = {
        (*_shared(r), *_own(r)): {} for r in known
    }
    for record in known:
        own = [(*_shared(record), *_own(record))]
        if record["method"] in RECIPE_FREE:
            own = [group for group in groups if group[: len(_shared(record))] == _shared(record)]
        run = tuple(record[key] for key in ("drift", "noised", "method", "size", "seed"))
        for group in own:
            held = groups[group]
            # Of several definitions of a run, such as after a change of `fast`, the latest counts.
            if run not in held or held[run]["finished"] <= record["finished"]:
                held[run] = record
    order, recipes = list(EXPERIMENTS), list(RECIPES)

    def place(key: tuple[Any, ...]) -> tuple[Any, ...]:
        quick, name, *others, recipe, group = key
        return (quick, order.index(name), _place(recipes, recipe), *others, group)

    return [_table(key, list(groups[key].values())) for key in sorted(groups, key=place)]


def _shared(record: Record) -> tuple[Any, ...]:
    """What no table mixes, whatever the method."""
    return (*(record[k] for k in ("quick", "experiment", "model", "data")), record.get("source", ""))


def _own(record: Record) -> tuple[Any, ...]:
    """What else no table mixes among methods that follow the recipe: its name, and its fields at the time."""
    return record["recipe"], record.get("group", "")


def _table(key: tuple[Any, ...], records: list[Record]) -> Table:
    quick, name, model, data, _, recipe, group = key
    experiment = find_experiment(name, quick)
    by_column: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r["size"], _place(BLOCK_METHODS, r["noised"]))):
        by_column.setdefault(record["noised"] or f"{record['size']} %", []).append(record)
    figures: dict[str, dict[str, Figure]] = {row: {} for row in ROWS}
    detail: dict[str, dict[str, dict[str, Figure]]] = {}
    drifts_by_column: dict[str, set[str | None]] = {}
    for column, own in by_column.items():
        drifts = drifts_by_column[column] = comparable(own)
        for method, figure in _figures(own, drifts).items():
            figures[method][column] = figure
        if len(drifts) > 1:
            ordered = sorted(drifts, key=lambda drift: _place(experiment.drifts, drift))
            detail[column] = {str(drift): _figures(own, {drift}) for drift in ordered}
    figures = {method: row for method, row in figures.items() if row}
    return Table(
        experiment=name,
        title=EXPERIMENTS[name].title,
        level=experiment.level,
        paper_best=experiment.paper_best,
        recipe=recipe,
        model=model,
        data=data,
        quick=quick,
        group=group,
        complete={c: drifts >= set(experiment.drifts) for c, drifts in drifts_by_column.items()},
        columns=tuple(by_column),
        figures=figures,
        published={} if quick else published(name),
        detail=detail,
        best=_best(figures, by_column, [m for m in figures if m != BLOCK_AVERAGE]),
        best_block=_best(figures, by_column, [m for m in figures if m in BLOCK_METHODS]),
    )


def comparable(records: Iterable[Record]) -> set[str | None]:
    """The drifts that a column averages over: those that have every method which most drifts have.

    So a run that has only started another drift does not empty the column, and a method that was tried on
    few drifts does not narrow it.
    """
    methods: dict[str | None, set[str]] = {}
    for record in records:
        methods.setdefault(record["drift"], set()).add(record["method"])
    counts = Counter(method for own in methods.values() for method in own)
    usual = {method for method, count in counts.items() if 2 * count > len(methods)}
    return {drift for drift, own in methods.items() if own >= usual} or set(methods)


def _place(names: Sequence[str | None], name: str | None) -> int:
    """Position of a name; unknown names come last."""
    return list(names).index(name) if name in names else len(names)


def _figures(records: list[Record], drifts: set[str | None]) -> dict[str, Figure]:
    """method -> figure, over the seeds that have all of the drifts."""
    cells = {(r["method"], r["seed"], r["drift"]): r for r in records if r["drift"] in drifts}
    made: dict[str, Figure] = {}
    whole: dict[str, dict[int, list[Record]]] = {}
    for method in METHODS:
        for seed in sorted({s for m, s, _ in cells if m == method}):
            keys = [(method, seed, drift) for drift in sorted(drifts, key=str)]
            if all(key in cells for key in keys):
                whole.setdefault(method, {})[seed] = [cells[key] for key in keys]
    full = whole.get("full", {})
    for method, by_seed in whole.items():
        accuracies = {seed: fmean(r["accuracy"] for r in found) for seed, found in by_seed.items()}
        made[method] = _figure(accuracies, by_seed, full)
    blocks = [whole.get(method, {}) for method in BLOCK_METHODS]
    common = set(blocks[0]).intersection(*blocks[1:])
    if common:
        means = {seed: fmean(made[m].by_seed[seed] for m in BLOCK_METHODS) for seed in sorted(common)}
        own = {seed: [r for block in blocks for r in block[seed]] for seed in sorted(common)}
        made[BLOCK_AVERAGE] = _figure(means, own, full)
    return made


def _figure(
    accuracies: Mapping[int, float],
    by_seed: Mapping[int, list[Record]],
    full: Mapping[int, list[Record]],
) -> Figure:
    accuracy, half_width = interval(list(accuracies.values()))
    records = [record for found in by_seed.values() for record in found]
    seconds = [_cpu_seconds(record) for record in records if _place_of(record)]
    pairs = [pair for seed in set(by_seed) & set(full) for pair in _comparable(by_seed[seed], full[seed])]
    own = sum(_cpu_seconds(record) for record, _ in pairs)
    others = sum(_cpu_seconds(record) for _, record in pairs)
    kinds = {record["measurement"]["energy_kind"] for record in records}
    joules = [record["measurement"]["energy_joules"] for record in records]
    known = len(kinds) == 1 and None not in joules
    return Figure(
        accuracy=accuracy,
        half_width=half_width,
        by_seed=dict(accuracies),
        cpu_seconds=fmean(seconds) if seconds else None,
        cpu_ratio=own / others if others else None,
        energy_joules=fmean(joules) if known else None,
        energy_kind=kinds.pop() if known else "unavailable",
        runs=tuple(record["id"] for record in records),
    )


def _place_of(record: Record) -> str:
    """The processor that the run was timed on; empty: it ran on a GPU, and its time is no cost."""
    return str(record["machine"]["processor"]) if record.get("device", "cpu") == "cpu" else ""


def _comparable(own: Iterable[Record], full: Iterable[Record]) -> Iterator[tuple[Record, Record]]:
    """Runs of one seed with that of ``full`` on the same drift, where both were timed on one processor."""
    others = {record["drift"]: record for record in full}
    for record in own:
        other = others[record["drift"]]
        if _place_of(record) and _place_of(record) == _place_of(other):
            yield record, other


def _cpu_seconds(record: Record) -> float:
    """Seconds of a run, scaled to the whole test part if the method was evaluated on some of it."""
    evaluated, test = record.get("details", {}).get("samples_evaluated"), record.get("test_samples")
    return float(record["measurement"]["cpu_seconds"]) * (test / evaluated if evaluated and test else 1.0)


def _best(
    figures: Mapping[str, Mapping[str, Figure]], columns: Iterable[str], methods: Sequence[str]
) -> dict[str, str]:
    best = {}
    for column in columns:
        known = [method for method in methods if column in figures[method]]
        if known:
            best[column] = max(known, key=lambda method: figures[method][column].accuracy)
    return best


def to_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Plain values, for ``tables.json``."""
    return {
        "source_of_published": paper()["source"],
        "tables": [asdict(table) for table in tables],
    }


def text_of(table: Table) -> str:
    """A table for the terminal: accuracy in percent, and the published one in parentheses."""
    quick = " (quick version)" if table.quick else ""
    folder = f" ({table.experiment}-{table.group})" if table.group else ""
    lines = [f"{table.experiment}{quick}, recipe {table.recipe}, {table.model}, {table.data}{folder}"]
    width = 23
    lines.append(" " * 16 + "".join(column.rjust(width) for column in table.columns) + "   cpu/full")
    for method in table.figures:
        cells = "".join(_cell(table, method, column).rjust(width) for column in table.columns)
        share = table.time_share(method)
        lines.append(f"{method:16}{cells}" + ("" if share is None else f"{100 * share:9.1f} %"))
    return "\n".join(lines)


def _cell(table: Table, method: str, column: str) -> str:
    figure, printed = table.figure(method, column), table.published.get(method, {}).get(column)
    if figure is None:
        return "-"
    text = f"{100 * figure.accuracy:.1f}"
    if figure.half_width is not None:
        text += f" +-{100 * figure.half_width:.1f}"
    if printed is not None:
        text += f" ({100 * printed[0]:.1f})"
    return text + ("*" if table.best.get(column) == method else " ")
