"""Records made by hand, as `python -m paper run` writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from paper.experiments import BLOCK_METHODS, EXPERIMENTS
from paper.runs import cells


def measured(cpu_seconds: float, joules: float | None = None) -> dict:
    kind = "unavailable" if joules is None else "measured"
    return {"cpu_seconds": cpu_seconds, "energy_joules": joules, "energy_kind": kind}


def record(method: str, accuracy: float, **changes: object) -> dict:
    made = {
        "experiment": "cifar10-c", "quick": False, "recipe": "paper", "model": "resnet26-cifar10",
        "data": "CIFAR-10 test set (JPEG copy)", "drift": "fog:5", "noised": None, "method": method,
        "arm": method, "size": 10, "seed": 0, "accuracy": accuracy, "finished": "2026-01-01T00:00:00Z",
        "measurement": measured(1.0), "base_fingerprint": "4b64b7", "engine": "serial", "versions": {},
        "machine": {"processor": "chip", "system": "Linux", "cores": 2, "threads": 1},
        "commit": None, "dirty": False,
    }  # fmt: skip
    made |= changes
    return {"id": str(sorted(map(str, made.items()))), **made}


def whole(gain: float = 0.0, blocks_cost: float = 6.0) -> list[dict]:
    """Records of all that claims need, with the paper's block ahead by ten points and `gain`."""
    records = []
    for name, right in (("cifar10-c", "front"), ("tiny17", "layer3"), ("cifar-flip", "rear")):
        experiment = EXPERIMENTS[name]
        for cell in cells(experiment, seeds=2):
            for method in (*BLOCK_METHODS, "full", "ours"):
                accuracy = 0.5 + (0.1 + gain) * (method in (right, "ours")) + 0.01 * cell.seed
                cost = {"full": 10.0, "ours": 1.0}.get(method, blocks_cost)
                place = {"experiment": name, "model": experiment.model, **asdict(cell)}
                records.append(record(method, accuracy, **place, measurement=measured(cost)))
    for cell in cells(EXPERIMENTS["noise-motivation"], seeds=1):
        for method in BLOCK_METHODS:
            accuracy = 0.8 if method == cell.noised else 0.6
            records.append(
                record(method, accuracy, experiment="noise-motivation", noised=cell.noised, drift=None)
            )
    return records


def write(folder: Path, records: list[dict]) -> None:
    (folder / "e").mkdir()
    (folder / "e" / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
