"""From a folder of records to ``tables.json``, ``claims.json`` and the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper import claims as claims_module
from paper import tables as tables_module
from paper.claims import Claim, claims_of
from paper.page import reproduction_page
from paper.page.strips import drift_strips
from paper.records import read_costs, read_records
from paper.tables import Table, tables_of
from tbft.files import atomic_path
from tbft.report.pages import write_page


@dataclass(frozen=True)
class Report:
    """What was written, and what is in it."""

    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]


def write_report(source: str | Path, out: str | Path) -> Report:
    """Read all records below the folder `source`, and write what they show into the folder `out`.

    Raises:
        TbftError: there are no records.
        MissingExtraError: the extra `paper` is not installed.
    """
    records, costs = read_records(source), read_costs(source)
    tables = tables_of(records)
    claims = claims_of(tables, costs)
    page = reproduction_page(tables, claims, records, costs, drift_strips())
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = (folder / "tables.json", folder / "claims.json", folder / "index.html")
    _write_json(files[0], tables_module.to_json(tables))
    _write_json(files[1], claims_module.to_json(claims))
    write_page(page, files[2])
    return Report(files, tuple(tables), tuple(claims))


def _write_json(path: Path, value: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
