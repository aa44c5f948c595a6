"""Write `results/README.md`, the tables and claims from the records in `results/`: `make readme`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout

from paper.claims import Claim, claims_of
from paper.records import read_costs, read_records
from paper.tables import Figure, Table, tables_of

RESULTS = Path(__file__).parents[1] / "results"
START = """# What the records say

Made by `make readme` from the records in this folder, and from nothing else; `python -m paper report` makes a
page of the same. How they were made: [paper/README.md](../paper/README.md).

Accuracies are in percent: mean over seeds and 95 % interval; in brackets what the paper printed, for
CIFAR-10 on the lossless set; the best of each column is bold. Processor time is a share of full fine-tuning's
in the same cells and with the table's recipe, mean over the columns. `ours` does the same whatever the recipe
of the others.
"""
VERDICTS = {True: "**holds**", False: "**does not hold**", None: "open"}


def page(folder: Path) -> str:
    """The page about a folder's records."""
    tables = [table for table in tables_of(read_records(folder)) if not table.quick]
    claims = claims_of(tables, read_costs(folder))
    parts = [START, "## Does it hold?\n", *_claims(claims)]
    for table in tables:
        parts += ["", *_table(table)]
    return "\n".join(parts) + "\n"


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    yield from _row(["claim", "published", "here", ""])
    yield from _row(["---", "---:", "---:", "---"])
    for one in claims:
        spread = "" if one.half_width is None else f" ± {one.half_width:g}"
        here = [] if one.ours is None else [f"{one.ours:g}{spread} {one.unit}"]
        here += [f"needs {one.missing}"] if one.holds is None else []
        published = "" if one.published is None else f"{one.published:g} {one.unit}"
        yield from _row([one.claim, published, "; ".join(here), VERDICTS[one.holds]])


def _table(table: Table) -> Iterator[str]:
    yield f"## {table.experiment}, recipe {table.recipe}\n"
    folder = f"{table.experiment}-{table.group}"
    yield (
        f"{table.title[0].upper()}{table.title[1:]}. {table.model}, {table.data}; "
        f"[records]({folder}/records.jsonl), {_seeds(table)}.\n"
    )
    notes = [
        f"At {column} some drifts have no records yet." for column, all_ in table.complete.items() if not all_
    ]
    notes += [table.time_note] if table.time_note else []
    if notes:
        yield " ".join(notes) + "\n"
    yield from _row(["method", *table.columns, "processor time"])
    yield from _row(["---"] + ["---:"] * (len(table.columns) + 1))
    for method, row in table.figures.items():
        share = table.time_share(method)
        cost = "" if share is None else f"{100 * share:.1f} %"
        yield from _row([method, *(_cell(table, method, row.get(c), c) for c in table.columns), cost])


def _seeds(table: Table) -> str:
    """The number of seeds of the columns; if it differs, that of most methods."""
    counts = {}
    for column in table.columns:
        seeds = [len(row[column].by_seed) for row in table.figures.values() if column in row]
        counts[column] = max(seeds, key=seeds.count)
    return "seeds: " + ", ".join(f"{count} at {column}" for column, count in counts.items())


def _cell(table: Table, method: str, figure: Figure | None, column: str) -> str:
    if figure is None:
        return ""
    text = f"{100 * figure.accuracy:.1f}"
    if figure.half_width is not None:
        text += f" ± {100 * figure.half_width:.1f}"
    if table.best.get(column) == method:
        text = f"**{text}**"
    printed = table.published.get(method, {}).get(column)
    return text if printed is None else f"{text} ({100 * printed[0]:.1f})"


def _row(cells: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(page(RESULTS))
