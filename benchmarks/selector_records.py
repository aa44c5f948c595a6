"""Read the records of the selectors, from any version of tbft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selector_oracle import key, read_records

from tbft.choosing.cost import Cost
from tbft.diagnosis.evidence import AdaBN, Agreement, Confidence, Evidence, Shift

Record = dict[str, Any]


def cost_of(record: Mapping[str, Any]) -> Cost:
    """A predicted cost; 0.1 wrote ``least_bytes`` for ``min_bytes``."""
    return Cost(**{{"least_bytes": "min_bytes"}.get(key, key): value for key, value in record.items()})


def has_card(record: Mapping[str, Any]) -> bool:
    """Whether the evidence was gathered with a source card."""
    return bool(record["has_card"] if "has_card" in record else not record["weaker"])


def evidence_of(record: Mapping[str, Any]) -> Evidence:
    """Evidence; that of 0.1 has no nesting."""
    if "shift" in record:
        parts = {"shift": Shift, "confidence": Confidence, "labels": Agreement, "adabn": AdaBN}
        nested = {key: None if record[key] is None else kind(**record[key]) for key, kind in parts.items()}
        return Evidence(**{**record, **nested})
    r = record
    labels = adabn = None
    if r["accuracy"] is not None:
        labels = Agreement(r["accuracy"], r["accuracy_p"], r["mapped_accuracy"], r["probe_accuracy"])
    if r["adabn_confidence"] is not None:
        adabn = AdaBN(
            r["adabn_samples"], r["adabn_confidence"], r["adabn_accuracy"], r["adabn_mapped_accuracy"]
        )
    source = r["source_accuracy"]
    return Evidence(
        samples=r["samples"],
        classes=r["classes"],
        labels_per_class=r["labeled_a_class"],
        has_card=not r["weaker"],
        source_accuracy=source,
        source_mapped_accuracy=r["source_mapped_accuracy"] or 0.0,
        shift=Shift(r["distance"], r["place"], r["strays"], r["block_distances"], r["pixels"]),
        confidence=Confidence(r["confidence"], r["source_confidence"], r["confidence_lost"]),
        labels=labels,
        adabn=adabn,
    )


def cells_of(folder: Path, half: str) -> Iterator[Record]:
    """The records of the oracle in one half, each with its evidence, what was tried, and costs."""
    evidence = {key(r): r for r in read_records([folder / "evidence.jsonl"])}
    tryouts = folder / "tryouts.jsonl"
    tries = {key(r): r for r in read_records([tryouts] if tryouts.exists() else [])}
    paper = {(r["model"], r["labeled"]): r for r in read_records([folder / "paper.jsonl"])}
    oracle = {key(r): r for r in read_records(sorted(folder.glob("oracle*.jsonl")))}
    for at, record in oracle.items():
        cost = paper.get((record["model"], record["labeled"]))
        if record["half"] == half and at in evidence:
            yield {**record, "evidence": evidence[at], "tryouts": tries.get(at), "paper": cost}
