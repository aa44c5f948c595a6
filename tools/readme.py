"""Write what is generated in the pages, tables of figures and the list of drifts: `make readme`."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]  # for `paper`, and other tools

from figures import families, people
from figures import tables as figure_tables
from readme_picture import COLUMN, PANELS, RECIPE

from paper.records import read_records
from paper.tables import Table, tables_of
from tbft.cli import main

ROOT = Path(__file__).parents[1]
README, DRIFTS, TABLES = ROOT / "README.md", ROOT / "docs" / "drifts.md", ROOT / "docs" / "figures.md"
DIAGNOSIS = ROOT / "docs" / "diagnosis.md"
LIST = "<!-- made by `make readme` from the registry -->\n", "<!-- end -->\n"
FIGURES = "<!-- made by `make readme` from the records -->\n", "<!-- end of figures -->\n"


def between(page: str, marks: tuple[str, str], text: str) -> str:
    """The page with this text between the marks."""
    before, _, rest = page.partition(marks[0])
    after = rest.partition(marks[1])[2]
    return f"{before}{marks[0]}{text}{marks[1]}{after}"


def drifts() -> str:
    """The table of drifts and class maps."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(["data", "list", "--markdown"])
    return text.getvalue()


def figures(folder: Path = ROOT / "results") -> str:
    """The table of figures, one row for each level of drift."""
    tables = {t.experiment: t for t in tables_of(read_records(folder)) if t.recipe == RECIPE and not t.quick}
    head = ["drift", "before", "full fine-tuning", "TENT", "the paper's block", "**tbft**"]
    rows = [[*head, "its time, of full"], ["---", *["---:"] * 6]]
    rows += [_row(tables[name], what, block) for name, (what, block) in PANELS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(table: Table, what: str, block: str) -> list[str]:
    ours = table.figure("ours", COLUMN)
    share = None if ours is None else ours.cpu_ratio
    cells = [_cell(table, method) for method in ("none", "full", "tent", block)]
    cells[-1] += f" ({block})"
    folder = f"results/{table.experiment}-{table.group}"
    what += f" ([record]({folder}/records.jsonl), {_seeds(table, block)})"
    time = "" if share is None else f"{100 * share:.0f} %"
    return [what, *cells, f"**{_cell(table, 'ours')}**", time]


def _seeds(table: Table, block: str) -> str:
    found = (table.figure(method, COLUMN) for method in ("none", "full", "tent", block, "ours"))
    counts = sorted({len(figure.by_seed) for figure in found if figure is not None})
    number = " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
    return f"{number} seed{'s' * (counts[-1] > 1)}"


def _cell(table: Table, method: str) -> str:
    figure = table.figure(method, COLUMN)
    return "-" if figure is None else f"{100 * figure.accuracy:.1f}"


def _made(page: str, tables: Mapping[str, str]) -> str:
    """The page with each of these tables in its place."""
    for name, table in tables.items():
        page = between(page, (f"<!-- made by `make readme`: {name} -->\n", "<!-- end -->\n"), table)
    return page


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with what is generated in it."""
    yield README, _made(between(README.read_text(), FIGURES, figures()), {"people": people()})
    yield TABLES, _made(TABLES.read_text(), figure_tables())
    yield DIAGNOSIS, _made(DIAGNOSIS.read_text(), {"families": families()})
    yield DRIFTS, between(DRIFTS.read_text(), LIST, drifts())


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text)
