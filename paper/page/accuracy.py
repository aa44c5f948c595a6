"""The sections about accuracy: tables and bars for each experiment, heat maps for drifts and for noise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from paper.experiments import BLOCK_METHODS, RECIPES, Experiment
from paper.page.bars import Bar, bars
from paper.page.heat import heat
from paper.page.names import drift_label, experiment_label, label, ordered
from paper.published import BLOCK_AVERAGE, published
from paper.tables import Figure, Table
from tbft.report.drawing import Picture
from tbft.report.words import DASH, count, listed, percent

#: The paper's columns come first in bar charts, as in its figures.
PAPER_METHODS = (*BLOCK_METHODS, BLOCK_AVERAGE, "full")


def experiment_section(experiment: Experiment, tables: Sequence[Table]) -> dict[str, Any]:
    """What the section of an experiment shows; without tables, how to make the records."""
    return {
        "name": experiment.name,
        "title": experiment_label(experiment.name),
        "words": experiment.title,
        "results": [_result(table, _title(table, tables)) for table in tables],
        "missing": [recipe for recipe in RECIPES if all(recipe != table.recipe for table in tables)],
    }


def _title(table: Table, tables: Sequence[Table]) -> str:
    model = f", {table.model}" if len({other.model for other in tables}) > 1 else ""
    return f"Recipe {table.recipe}{model}{', quick version' if table.quick else ''}"


def _result(table: Table, title: str) -> dict[str, Any]:
    has_times = any(table.time_share(method) is not None for method in table.figures)
    return {
        "title": title,
        "data": table.data,
        "words": f"{_finding(table)} {table.time_note}".strip(),
        "charts": list(_bar_charts(table)),
        "published": bool(table.published),
        "columns": [
            *((column, _runs(table, column)) for column in table.columns),
            *([("processor time", "of full")] if has_times else []),
        ],
        "rows": [_row(table, method, has_times) for method in table.figures],
    }


def _finding(table: Table) -> str:
    """Which block is best, in words, at the sizes where all have been tuned."""
    parts = []
    for column in table.columns:
        if any(table.figure(block, column) is None for block in BLOCK_METHODS):
            continue
        best = table.best_block[column]
        note = "" if table.paper_best is None else f", not {table.paper_best}"
        if best == table.paper_best:
            note = ", as in the paper"
        parts.append(f"{best} at {column} ({percent(table.figures[best][column].accuracy)}{note})")
    words = [f"Best block: {'; '.join(parts)}."] if parts else []
    partial = [column for column, complete in table.complete.items() if not complete]
    if partial:
        words.append(f"At {listed(partial)} some drifts have no records yet: the means are over the others.")
    return " ".join(words)


def _bar_charts(table: Table) -> Iterator[Picture]:
    """A chart for each size, all with the same axis."""
    ours = [figure.accuracy for row in table.figures.values() for figure in row.values()]
    printed = [accuracy for row in table.published.values() for accuracy, _ in row.values()]
    methods = (*PAPER_METHODS, *(m for m in table.figures if m not in PAPER_METHODS))
    for column in table.columns:
        found = (
            Bar(method, _interval(table.figure(method, column)), table.published.get(method, {}).get(column))
            for method in methods
        )
        shown = [bar for bar in found if bar.ours or bar.published]
        yield bars(f"{column} for training", shown, table.best.get(column), max([*ours, *printed]))


def _interval(figure: Figure | None) -> tuple[float, float | None] | None:
    return None if figure is None else (figure.accuracy, figure.half_width)


def _row(table: Table, method: str, has_times: bool) -> dict[str, Any]:
    """A method's accuracy at each size, and its time; the best method of each column is marked."""
    cells = []
    for column in table.columns:
        figure, printed = table.figure(method, column), table.published.get(method, {}).get(column)
        text = DASH if figure is None else _mean(figure.accuracy, figure.half_width)
        note = _mean(*printed) if printed else ""
        cells.append({"text": text, "note": note, "best": table.best.get(column) == method})
    if has_times:
        cells.append({"text": percent(table.time_share(method)), "note": "", "best": False})
    return {"name": label(method), "cells": cells}


def _mean(accuracy: float, half_width: float | None) -> str:
    spread = "" if half_width is None else f" ± {100 * half_width:.1f}"
    return f"{100 * accuracy:.1f}{spread}"


def _runs(table: Table, column: str) -> str:
    """How many runs the figures of a size are made of."""
    rows = [row for method, row in table.figures.items() if method != BLOCK_AVERAGE]
    runs = sorted({len(row[column].runs) for row in rows if column in row})
    if len(runs) < 2:
        return count(runs[0], "run") if runs else ""
    return f"{runs[0]} to {runs[-1]} runs"


def detail_charts(tables: Sequence[Table]) -> Iterator[Picture]:
    """Drifts by methods at the first size, for each table that has several drifts."""
    for table in tables:
        for column, drifts in list(table.detail.items())[:1]:
            values = {
                (drift_label(drift), method): figure.accuracy
                for drift, row in drifts.items()
                for method, figure in row.items()
                if method != BLOCK_AVERAGE
            }
            rows, methods = _rows(values), ordered({method for _, method in values})
            best = [max((key for key in values if key[0] == row), key=values.__getitem__) for row in rows]
            yield heat(f"{_title(table, tables)}, {column} for training", rows, methods, values, best)


def _rows(values: Iterable[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(row for row, _ in values))


def noise_section(tables: Sequence[Table]) -> dict[str, Any]:
    """Noise on each block by tuning of each: ours, if there are records, beside the published figures."""
    charts, words = [], ""
    for table in tables[:1]:
        ours = {(m, c): figure.accuracy for m, row in table.figures.items() for c, figure in row.items()}
        title = f"Measured here, recipe {table.recipe}{', quick version' if table.quick else ''}"
        charts.append(_noise_chart(title, ours))
        best = best_blocks(ours)
        won = sum(tuned == noised for tuned, noised in best)
        words = f"The block with the noise is the best one to tune in {won} of {len(best)} columns."
    printed = {(m, c): pair[0] for m, row in published("noise-motivation").items() for c, pair in row.items()}
    charts.append(_noise_chart("Published", printed))
    return {"charts": charts, "has_records": bool(tables), "words": words}


def _noise_chart(title: str, values: Mapping[tuple[str, str], float]) -> Picture:
    columns = ordered({column for _, column in values})
    return heat(title, _rows(values), columns, values, best_blocks(values), "tuned", "noise on")


def best_blocks(values: Mapping[tuple[str, str], float]) -> Collection[tuple[str, str]]:
    """(best block to tune, noised block), for the columns in which every block has been tuned."""
    columns = dict.fromkeys(column for _, column in values)
    whole = [c for c in columns if all((block, c) in values for block in BLOCK_METHODS)]
    return [(max(BLOCK_METHODS, key=lambda block: values[block, c]), c) for c in whole]
