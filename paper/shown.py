"""From the tables, claims and records of ``python -m paper`` to what its page shows.

All three are plain values, as they stand in ``tables.json``, ``claims.json`` and ``records.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from paper.inputs import (
    Claim,
    CostTable,
    CostWay,
    Effort,
    Experiment,
    Figure,
    Grid,
    Noise,
    Reproduction,
    Results,
)
from tbft.report.inputs import Strip
from tbft.report.words import listed

Plain = Mapping[str, Any]
Published = Mapping[str, Mapping[str, Sequence[float]]]

#: Methods that do the same whatever the recipe of the arms.
OWN_RECIPES = {"none": "none", "ours": "fast", "auto-rgn": "own", "tent": "own", "memo": "own"}
#: Experiments that have a section of another kind.
APART = ("noise-motivation", "system-cost")


def reproduction_of(
    tables: Sequence[Plain],
    claims: Sequence[Plain],
    records: Sequence[Plain],
    experiments: Sequence[Plain],
    published_noise: Published,
    system: Sequence[Plain] = (),
    strips: Sequence[Strip] = (),
) -> Reproduction:
    """What the page shows.

    Args:
        experiments: that there could be records of: ``name``, ``title``, ``right``.
        published_noise: tuned -> noised -> mean and half-width, as the paper printed it.
        system: what ``tbft cost --system --json`` prints, for each model.
        strips: sample pictures of drifts.
    """
    return Reproduction(
        claims=[claim_of(one) for one in claims],
        experiments=[_experiment(one, tables) for one in experiments if one["name"] not in APART],
        noise=_noise(tables, published_noise),
        costs=[table for one in _whole_first(system) for table in _cost_tables(one)],
        method=list(method_of(records)),
        warnings=list(warnings_of(records)),
        strips=strips,
    )


def claim_of(one: Plain) -> Claim:
    """A claim with its numbers in words.

    >>> claim_of({"claim": "a gain", "unit": "points", "published": 15.3, "ours": 14.0, "half_width": 0.5,
    ...           "holds": True, "missing": "", "records": ["a", "b"]}).ours
    '14 ± 0.5 points'
    """
    spread = "" if one["half_width"] is None else f" ± {one['half_width']:g}"
    told = [] if one["ours"] is None else [_number(one["ours"], one["unit"], spread)]
    told += [f"needs {one['missing']}"] if one["holds"] is None else []
    return Claim(
        claim=one["claim"],
        published=None if one["published"] is None else _number(one["published"], one["unit"]),
        ours="; ".join(told),
        holds=one["holds"],
        records=len(one["records"]),
    )


def _number(value: float, unit: str, spread: str = "") -> str:
    return f"{value:g}{spread} {unit}".replace("-", "\u2212")


def _chosen(tables: Sequence[Plain], name: str) -> list[Plain]:
    """An experiment's tables; the quick ones only of recipes that have no whole one."""
    own = [table for table in tables if table["experiment"] == name]
    whole = {table["recipe"] for table in own if not table["quick"]}
    return [table for table in own if not table["quick"] or table["recipe"] not in whole]


def _experiment(one: Plain, tables: Sequence[Plain]) -> Experiment:
    own = _chosen(tables, one["name"])
    size = next((column for table in own for column in table["columns"]), None)
    return Experiment(
        name=one["name"],
        title=one["title"],
        right=one["right"],
        results=[_results(table) for table in own],
        effort=list(_efforts(own, size)),
        effort_size=size,
    )


def _results(table: Plain) -> Results:
    size, detail = next(iter(table["detail"].items()), (None, {}))
    return Results(
        recipe=table["recipe"],
        model=table["model"],
        data=table["data"],
        quick=table["quick"],
        accuracy=_grid(table["columns"], table["figures"]),
        time_shares=_time_shares(table["figures"]),
        published=_published(table["published"]) if table["published"] else None,
        detail=_by_row(detail, left_out="block average") if detail else None,
        detail_size=size,
        partial=[column for column, complete in table["complete"].items() if not complete],
    )


def _grid(columns: Sequence[str], figures: Mapping[str, Mapping[str, Plain]]) -> Grid:
    """method -> size -> figure, turned so that sizes are the rows."""
    cells = {(size, method): _figure(f) for method, by_size in figures.items() for size, f in by_size.items()}
    return Grid(list(columns), list(figures), cells)


def _by_row(figures: Mapping[str, Mapping[str, Plain]], left_out: str | None = None) -> Grid:
    """row -> column -> figure."""
    cells = {
        (row, column): _figure(figure)
        for row, by_column in figures.items()
        for column, figure in by_column.items()
        if column != left_out
    }
    return Grid(list(figures), list(dict.fromkeys(column for _, column in cells)), cells)


def _figure(figure: Plain) -> Figure:
    return Figure(figure["accuracy"], figure["half_width"], len(figure["runs"]))


def _published(printed: Published) -> Grid:
    cells = {(c, m): Figure(p[0], p[1]) for m, by_column in printed.items() for c, p in by_column.items()}
    return Grid(list(dict.fromkeys(column for column, _ in cells)), list(printed), cells)


def _time_shares(figures: Mapping[str, Mapping[str, Plain]]) -> dict[str, float]:
    found = {}
    for method, by_size in figures.items():
        ratios = [f["cpu_ratio"] for f in by_size.values() if f["cpu_ratio"] is not None]
        if ratios:
            found[method] = fmean(ratios)
    return found


def _efforts(tables: Sequence[Plain], size: str | None) -> Iterator[Effort]:
    """Of every method and recipe; what has a recipe of its own is there once."""
    seen = set()
    for table in tables:
        for method, by_size in table["figures"].items():
            recipe = OWN_RECIPES.get(method, str(table["recipe"]))
            once = (method, recipe)
            if size in by_size and once not in seen and method != "block average":
                seen.add(once)
                yield Effort(method, recipe, by_size[size]["cpu_seconds"], by_size[size]["accuracy"])


def _noise(tables: Sequence[Plain], printed: Published) -> Noise:
    table = next(iter(_chosen(tables, "noise-motivation")), None)
    cells = {(t, n): Figure(p[0], p[1]) for t, by_noised in printed.items() for n, p in by_noised.items()}
    columns = list(dict.fromkeys(noised for _, noised in cells))
    published = Grid(list(printed), columns, cells)
    if table is None:
        return Noise(None, published)
    return Noise(_by_row(table["figures"]), published, table["quick"], table["recipe"])


#: The paper's columns under the names that readers know here.
COLUMNS = {
    "block1": "front",
    "block2": "layer2",
    "block3": "layer3",
    "fc": "rear",
    "block_avg": "block average",
}


def _whole_first(system: Sequence[Plain]) -> list[Plain]:
    """Of each model one measurement, the latest whole one if there is one; smaller pictures first."""
    chosen: dict[str, Plain] = {}
    latest = sorted(system, key=lambda one: str(one.get("finished")), reverse=True)
    for one in sorted(latest, key=lambda one: bool(one.get("quick"))):
        chosen.setdefault(one["model"], one)
    return sorted(chosen.values(), key=lambda one: (one["resolution"], one["model"]))


def _cost_tables(one: Plain) -> Iterator[CostTable]:
    """A table for each amount of work; the published row stands below the one it is of."""
    columns = [COLUMNS.get(column, column) for column in one["system_columns"]]
    for title, rows in one["system"].items():
        ways = [
            CostWay(
                row["way"],
                row["cpu_seconds"],
                _shares(row["saving_percent"]),
                row["energy_joules"],
                one["energy_kind"] if row["energy_joules"] is not None else "unavailable",
            )
            for row in rows
        ]
        if one["published"] is not None and title.startswith("one sample"):
            ways.append(_published_way(one["published"]))
        quick = ", quick version" if one.get("quick") else ""
        yield CostTable(f"{one['model']}, {one['resolution']} px, {title}{quick}", columns, ways)


def _published_way(printed: Plain) -> CostWay:
    savings = _shares(printed["saving_pct"])
    return CostWay("published", printed["time_s"], savings, printed["energy_j"], "time by a constant")


def _shares(percents: Sequence[float | None]) -> list[float | None]:
    return [None if percent is None else percent / 100 for percent in percents]


def method_of(records: Sequence[Plain]) -> Iterator[tuple[str, str]]:
    """How the records were made: machines, versions, engines, seeds, code."""
    machines = (r["machine"] for r in records)
    yield "records", f"{len(records):,}"
    yield "machine", _distinct(f"{m['processor']}, {m['cores']} cores, {m['system']}" for m in machines)
    yield "threads", _distinct(r["machine"].get("threads") for r in records)
    for name in ("tbft", "torch", "python"):
        yield name, _distinct(r["versions"].get(name) for r in records)
    yield "engine", _distinct(r["engine"] for r in records)
    yield "seeds", _distinct(r["seed"] for r in records)
    yield "base models", _distinct(f"{r['model']} ({r['base_fingerprint'][:8]})" for r in records)
    yield "data", _distinct(r["data"] for r in records)
    yield "energy", _distinct(r["measurement"]["energy_kind"] for r in records)
    yield "code", _distinct((r["commit"] or "not under git")[:10] for r in records)
    yield "finished", _distinct(r["finished"][:10] for r in records)


def _distinct(values: Iterable[Any]) -> str:
    return listed([str(value) for value in sorted({v for v in values if v is not None}, key=str)])


def warnings_of(records: Sequence[Plain]) -> Iterator[str]:
    """What a reader has to know before he trusts the figures."""
    dirty = sum(bool(r["dirty"]) for r in records)
    if dirty:
        yield f"{dirty:,} of {len(records):,} records were made by code that differs from its commit."
    quick = sum(bool(r["quick"]) for r in records)
    if quick:
        yield f"{quick:,} of {len(records):,} records are of quick versions, which are not the paper's."
    shared = {r["engine"] for r in records} - {"serial"}
    if shared:
        yield (
            "Some runs had others beside them on the same machine, which makes processor time a little "
            "longer; energy is recorded in serial runs only."
        )
