"""From a folder of records to ``tables.json``, ``claims.json`` and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper import claims as claims_of_tables
from paper import tables as tables_of_records
from paper.claims import Claim, claims_of
from paper.experiments import EXPERIMENTS
from paper.page import reproduction_page
from paper.published import published
from paper.records import read_costs, read_records
from paper.shown import reproduction_of
from paper.strips import drift_strips
from paper.tables import Table, tables_of
from tbft.files import atomic_path
from tbft.report import write_page


@dataclass(frozen=True)
class Report:
    """What was written, and what is in it."""

    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]


def write_report(records: str | Path, out: str | Path) -> Report:
    """Read all records below a folder and write what they show.

    Raises:
        TbftError: there are no records.
    """
    found = read_records(records)
    costs = read_costs(records)
    tables = tables_of(found)
    claims = claims_of(tables, costs)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        _write(folder / "tables.json", tables_of_records.to_json(tables)),
        _write(folder / "claims.json", claims_of_tables.to_json(claims)),
    ]
    files.append(folder / "index.html")
    given = reproduction_of(
        tables_of_records.to_json(tables)["tables"],
        claims_of_tables.to_json(claims),
        found,
        [{"name": e.name, "title": e.title, "right": e.right} for e in EXPERIMENTS.values()],
        published("noise-motivation"),
        costs,
        drift_strips(),
    )
    write_page(reproduction_page(given), files[-1])
    return Report(tuple(files), tuple(tables), tuple(claims))


def _write(path: Path, value: Any) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    return path


def text_of(claims: Sequence[Claim]) -> str:
    """The claims for the terminal, one a line."""
    marks = {True: "holds", False: "does not hold", None: "open"}
    lines = []
    for claim in claims:
        numbers = f"published {_number(claim.published)}, ours {_number(claim.ours)} {claim.unit}"
        told = [numbers] if claim.ours is not None else []
        told += [f"needs {claim.missing}"] if claim.holds is None else []
        lines.append(f"{marks[claim.holds]:14}{claim.claim}: {'; '.join(told)}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
