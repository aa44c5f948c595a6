"""The sections about cost: accuracy against processor time, and the tables of system costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paper.experiments import BASELINE_METHODS
from paper.page.names import experiment_label, label
from paper.published import BLOCK_AVERAGE, PUBLISHED_METHODS
from paper.tables import Table
from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.words import joules, percent, seconds

#: Recipes of the methods that do not follow the recipe of the arms.
OWN_RECIPES = {"none": "none", "ours": "fast", **dict.fromkeys(BASELINE_METHODS, "own")}

Plain = Mapping[str, Any]


def effort_charts(name: str, tables: Sequence[Table]) -> Iterator[Picture]:
    """Accuracy against processor time at the first size, of every method with every recipe."""
    column = next((column for table in tables for column in table.columns), "")
    points: dict[tuple[str, str], charts.Point] = {}
    for table in tables:
        for method in table.figures:
            recipe = OWN_RECIPES.get(method, table.recipe)
            figure = table.figure(method, column)
            if figure is not None and figure.cpu_seconds is not None and method != BLOCK_AVERAGE:
                point = charts.Point(method, figure.cpu_seconds, figure.accuracy, recipe != "paper")
                points.setdefault((method, recipe), point)
    if points:
        title = f"{experiment_label(name)}, {column} for training"
        yield charts.costs(title, list(points.values()), label=label, height=360)


def system_tables(costs: Sequence[Plain]) -> list[dict[str, Any]]:
    """For each model, one sample and a whole job; smaller pictures first."""
    latest: dict[str, Plain] = {}
    # Of several measurements of a model the last in this order counts: the latest whole one.
    for one in sorted(costs, key=lambda one: (not one["quick"], one["finished"])):
        latest[one["model"]] = one
    chosen = sorted(latest.values(), key=lambda one: (one["resolution"], one["model"]))
    return [_system_table(one, title) for one in chosen for title in one["system"]]


def _system_table(one: Plain, title: str) -> dict[str, Any]:
    """A row for each way of tuning; the published row stands below those of one sample."""
    rows = []
    for row in one["system"][title]:
        kind = one["energy_kind"] if row["energy_joules"] is not None else "unavailable"
        rows += _rows(row["way"], row["cpu_seconds"], row["saving_percent"], row["energy_joules"], kind)
    printed = one["published"]
    if printed is not None and title.startswith("one sample"):
        times, savings, energy = (printed[key] for key in ("time_s", "saving_pct", "energy_j"))
        rows += _rows("published", times, savings, energy, "time multiplied by a constant")
    quick = ", quick version" if one["quick"] else ""
    return {
        "title": f"{one['model']}, {one['resolution']} px, {title}{quick}",
        "columns": [label(PUBLISHED_METHODS[column]) for column in one["system_columns"]],
        "rows": rows,
    }


def _rows(
    way: str,
    times: Sequence[float],
    savings: Sequence[float | None],
    energy: Sequence[float] | None,
    energy_kind: str,
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(name, note, cells with a note each): times and what they save, and energy if there is a figure."""
    saved = [
        "" if saving is None else f"saves {percent(saving / 100, 0)}".replace("-", "\u2212")
        for saving in savings
    ]
    note = "" if energy is not None else f"energy {energy_kind}"
    rows = [(way, note, list(zip(map(seconds, times), saved, strict=True)))]
    if energy is not None:
        rows.append(("energy", energy_kind, [(joules(value), "") for value in energy]))
    return rows
