"""Where the records come from, and what to know before trusting them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from paper.records import Record
from tbft.report.words import DASH


def origin_of(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """(name, value) of how the records were made: machines, versions, engines, seeds, code."""
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
    return "; ".join(sorted({str(value) for value in values if value is not None})) or DASH


def warnings_of(records: Sequence[Record]) -> Iterator[str]:
    """What a reader should know before trusting the figures."""
    dirty = sum(bool(r["dirty"]) for r in records)
    if dirty:
        yield f"{dirty:,} of {len(records):,} records were made by code that differed from its commit."
    quick = sum(bool(r["quick"]) for r in records)
    if quick:
        yield f"{quick:,} of {len(records):,} records are from quick versions of the experiments."
    shared = {r["engine"] for r in records} - {"serial"}
    if shared:
        yield (
            "Some runs shared the machine with others, which makes their processor time a little longer; "
            "energy is recorded in serial runs only."
        )
