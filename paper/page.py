"""The page of the reproduced paper: what holds, ours beside the published figures, what it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from paper.heat import heat
from paper.inputs import Claim, CostTable, Experiment, Figure, Grid, Reproduction, Results
from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.pages import render
from tbft.report.theme import label, ordered
from tbft.report.words import DASH, count, joules, listed, percent, seconds

#: The paper's columns come first in bar charts, as in its figures.
AVERAGE = "block average"
BLOCKS = ("front", "layer2", "layer3", "rear")
PAPERS = (*BLOCKS, AVERAGE, "full")

#: What sections are called.
SHORT_NAMES = {
    "cifar10-c": "CIFAR-10-C",
    "cifar-flip": "Label reversal",
    "tiny17": "Tiny-17",
    "living17": "Living-17",
    "living17-photos": "Living-17, photos",
}


def reproduction_page(given: Reproduction) -> str:
    """The page as HTML.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    papers = [one for one in given.claims if one.published is not None]
    return render(
        "reproduction.html",
        package="paper",
        contents=_contents(given),
        headline=_headline(papers),
        unchecked=sum(one.holds is None for one in papers),
        claims=[
            ("What the paper claims", [_claim(one) for one in papers]),
            ("Beyond what the paper claims", [_claim(one) for one in given.claims if one.published is None]),
        ],
        experiments=[_experiment(one) for one in given.experiments],
        noise=_noise(given),
        costs=[_cost_table(table) for table in given.costs],
        efforts=[_effort(one) for one in given.experiments if one.effort],
        heats=[chart for one in given.experiments for chart in _heats(one)],
        strips=given.strips,
        method=given.method,
        warnings=given.warnings,
    )


def _contents(given: Reproduction) -> list[tuple[str, str]]:
    return [
        ("claims", "Does it hold?"),
        *((one.name, SHORT_NAMES.get(one.name, one.name)) for one in given.experiments),
        ("noise-motivation", "Noise on one block"),
        ("cost", "Accuracy against cost"),
        ("detail", "Corruption by corruption"),
        ("system-cost", "System cost"),
        *([("drifts", "What drifts look like")] if given.strips else []),
        ("method", "How it was measured"),
    ]


def _headline(claims: Sequence[Claim]) -> str:
    checked = [one for one in claims if one.holds is not None]
    if not checked:
        return "No claim of the paper can be checked yet: there are too few records"
    held, noun = sum(bool(one.holds) for one in checked), "claim" if len(checked) == 1 else "claims"
    verb = "holds" if held == 1 else "hold"
    return f"{held} of the paper's {len(checked)} {noun} that could be checked {verb}"


def _claim(one: Claim) -> dict[str, Any]:
    verdicts = {
        True: ("holds", "✓ holds"),
        False: ("fails", "✕ does not hold"),
        None: ("open", "○ not enough records"),
    }
    kind, words = verdicts[one.holds]
    return {
        "claim": one.claim,
        "published": one.published or DASH,
        "ours": one.ours,
        "kind": kind,
        "verdict": words,
        "records": count(one.records, "record") if one.records else "",
    }


def _experiment(one: Experiment) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": SHORT_NAMES.get(one.name, one.name),
        "words": one.title,
        "results": [_results(one, r) for r in one.results],
        "missing": [r for r in ("paper", "fast") if all(r != found.recipe for found in one.results)],
    }


def _results(one: Experiment, found: Results) -> dict[str, Any]:
    return {
        "title": _title(one, found),
        "data": found.data,
        "words": _finding(one, found),
        "charts": list(_bar_charts(found)),
        "published": found.published is not None,
        "table": _accuracy_table(found),
        "columns": [
            *((size, _runs(found.accuracy, size)) for size in found.accuracy.rows),
            *([("processor time", "of full")] if found.time_shares else []),
        ],
    }


def _title(one: Experiment, found: Results) -> str:
    model = f", {found.model}" if len({r.model for r in one.results}) > 1 else ""
    return f"Recipe {found.recipe}{model}{', quick version' if found.quick else ''}"


def _finding(one: Experiment, found: Results) -> str:
    """Which block wins, in words, where all have been tried."""
    grid, parts = found.accuracy, []
    for row in grid.rows:
        best = grid.best(row, BLOCKS)
        if best is not None and all((row, block) in grid.cells for block in BLOCKS):
            said = "" if one.right is None else f", not {one.right}"
            if best == one.right:
                said = ", as the paper says"
            parts.append(f"{best} at {row} ({percent(grid.cells[row, best].share)}{said})")
    words = [f"Best block: {'; '.join(parts)}."] if parts else []
    if found.partial:
        words.append(
            f"At {listed(list(found.partial))} some drifts have no records yet: means are of the others."
        )
    return " ".join(words)


def _methods(found: Results) -> list[str]:
    return ordered({method for _, method in found.accuracy.cells})


def _bar_charts(found: Results) -> Iterator[Picture]:
    grid, published = found.accuracy, found.published
    every = [*grid.cells.values(), *(published.cells.values() if published else ())]
    limit = max((figure.share for figure in every), default=1.0)
    for row in grid.rows:
        given = []
        for method in (*PAPERS, *(m for m in _methods(found) if m not in PAPERS)):
            ours = _pair(grid.cells.get((row, method)))
            paper = _pair(published.cells.get((row, method))) if published else None
            if ours or paper:
                given.append(charts.Bar(method, ours, paper))
        if any(bar.ours for bar in given):
            yield charts.bars(f"{row} for training", given, grid.best(row, [b.method for b in given]), limit)


def _pair(figure: Figure | None) -> tuple[float, float | None] | None:
    return None if figure is None else (figure.share, figure.half_width)


def _accuracy_table(found: Results) -> list[dict[str, Any]]:
    """A row a method, a column a size; the best of each column is marked."""
    grid = found.accuracy
    best = {size: grid.best(size) for size in grid.rows}
    rows = []
    for method in _methods(found):
        cells = []
        for size in grid.rows:
            paper = found.published.cells.get((size, method)) if found.published else None
            text, note = _mean(grid.cells.get((size, method))), _mean(paper) if paper else ""
            cells.append({"text": text, "note": note, "best": method == best[size]})
        if found.time_shares:
            share = percent(found.time_shares.get(method))
            cells.append({"text": share, "note": "", "best": False})
        rows.append({"name": label(method), "cells": cells})
    return rows


def _mean(figure: Figure | None) -> str:
    if figure is None:
        return DASH
    spread = "" if figure.half_width is None else f" ± {100 * figure.half_width:.1f}"
    return f"{100 * figure.share:.1f}{spread}"


def _runs(grid: Grid, size: str) -> str:
    """Of how many runs the figures of a size are."""
    runs = sorted({f.runs for (row, m), f in grid.cells.items() if row == size and m != AVERAGE and f.runs})
    if len(runs) < 2:
        return count(runs[0], "run") if runs else ""
    return f"{runs[0]} to {runs[-1]} runs"


def _noise(given: Reproduction) -> dict[str, Any]:
    told = f", recipe {given.noise.recipe}{', quick version' if given.noise.quick else ''}"
    made = [
        _heat(title, grid, _best_blocks(grid), "tuned", "noise on")
        for title, grid in ((f"Measured here{told}", given.noise.ours), ("Published", given.noise.published))
        if grid is not None
    ]
    return {"charts": made, "there": given.noise.ours is not None, "words": _diagonal(given.noise.ours)}


def _diagonal(grid: Grid | None) -> str:
    if grid is None:
        return ""
    best = _best_blocks(grid)
    won = sum(tuned == noised for tuned, noised in best)
    return f"The block that has the noise is the best one to tune in {won} of {len(best)} columns."


def _best_blocks(grid: Grid) -> list[tuple[str, str]]:
    """The best single block of each column."""
    best = []
    for column in grid.columns:
        if all((row, column) in grid.cells for row in BLOCKS):
            best.append((max(BLOCKS, key=lambda row: grid.cells[row, column].share), column))
    return best


def _heat(
    title: str, grid: Grid, winners: Sequence[tuple[str, str]], row_name: str = "", column_name: str = ""
) -> Picture:
    shares = {(plain_drift(row), column): figure.share for (row, column), figure in grid.cells.items()}
    rows, columns = [plain_drift(row) for row in grid.rows], ordered(grid.columns)
    marked = {(plain_drift(row), column) for row, column in winners}
    return heat(title, rows, columns, shares, marked, row_name, column_name)


def _effort(one: Experiment) -> Picture:
    points = [charts.Point(e.method, e.cpu_seconds, e.share, e.recipe != "paper") for e in one.effort]
    name = SHORT_NAMES.get(one.name, one.name)
    return charts.costs(f"{name}, {one.effort_size} for training", points, height=360)


def _heats(one: Experiment) -> Iterator[Picture]:
    for found in one.results:
        if (grid := found.detail) is not None:
            best = [(row, column) for row in grid.rows if (column := grid.best(row)) is not None]
            yield _heat(f"{_title(one, found)}, {found.detail_size} for training", grid, best)


def plain_drift(name: str) -> str:
    """A corruption as words.

    >>> plain_drift("gaussian_noise:5")
    'gaussian noise'
    """
    return name.partition(":")[0].replace("_", " ")


def _cost_table(table: CostTable) -> dict[str, Any]:
    """A row a way, time with what it saves below, and one more where there is an energy figure."""
    rows = []
    for way in table.ways:
        savings = ["" if share is None else f"saves {percent(share, 0)}" for share in way.savings]
        note = "" if way.joules is not None else f"energy {way.energy_kind}"
        rows.append((way.way, note, list(zip(map(seconds, way.seconds), savings, strict=True))))
        if way.joules is not None:
            rows.append(("energy", way.energy_kind, [(joules(value), "") for value in way.joules]))
    return {"title": table.title, "columns": [label(column) for column in table.columns], "rows": rows}
