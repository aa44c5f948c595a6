"""Fit the expected accuracy of each option to the records of the development half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from records import write
from selector_choices import model_blocks_names
from selector_records import Record, cells_of, evidence_of, has_card

from tbft.choosing.expectations import expectation_row, features
from tbft.choosing.options import options_of
from tbft.diagnosis.levels import diagnose_evidence

#: Minimum number of cells per row and number of labels for fitting coefficients; below it, medians are used.
FITTED_FROM = 3
RIDGE = 0.03


def calibrate(folder: Path, path: Path) -> None:
    """Write the expected accuracy of each option, from the development half only.

    It starts with the median share of the lost accuracy that an option recovers; the loss is relative to
    the accuracy before adaptation for ``head`` and the output level, otherwise to the accuracy after AdaBN.
    If there are enough cells, it is corrected by a ridge regression on
    :func:`tbft.choosing.choice.features`.
    """
    known = [cell for cell in cells_of(folder, "development") if has_card(cell["evidence"]["evidence"])]
    cells = [calibration_cell(cell) for cell in known]
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    counts: dict[str, int] = {}
    for row, labeled in sorted({(c["row"], c["labeled"]) for c in cells if c["row"]}):
        own = [c for c in cells if (c["row"], c["labeled"]) == (row, labeled)]
        counts[f"{row}, {labeled} a class"] = len(own)
        for role in own[0]["accuracy"]:
            fitted = [round(float(c), 4) for c in coefficients(row, role, own)]
            rows.setdefault(row, {}).setdefault(role, {})[str(labeled)] = fitted
    content = {
        "made_by": "benchmarks/selector_regret.py --calibrate, on the development half of shifts.py",
        "linear_in": ["1", "accuracy / source", "accuracy after AdaBN / source", "log10 distance"],
        "cells": counts,
        "rows": rows,
    }
    write(path, content)
    print(f"{path}: {len(cells)} cells, rows {', '.join(rows)}")


def calibration_cell(cell: Record) -> Record:
    """Row, features, and accuracy of each role relative to the source's."""
    evidence = evidence_of(cell["evidence"]["evidence"])
    diagnosis = diagnose_evidence(evidence)
    roles = {o.name: o.role for o in options_of(*model_blocks_names(cell["model"]), batch_norm=True)}
    accuracy = {roles[name]: value / evidence.source_accuracy for name, value in cell["accuracy"].items()}
    row = expectation_row(diagnosis)
    return {"row": row, "labeled": cell["labeled"], "accuracy": accuracy, "features": features(evidence)}


def coefficients(row: str, role: str, cells: list[Record]) -> npt.NDArray[np.float64]:
    rest = role == "head" or "output" in row or row == "random labels"
    x = np.array([cell["features"] for cell in cells])
    y = np.array([cell["accuracy"][role] for cell in cells])
    if row == "moved":  # nothing was lost, and a new head gains beyond the source's accuracy
        gains = [cell["accuracy"][role] - cell["accuracy"]["none"] for cell in cells]
        return np.array([float(np.median(gains)), 1.0, 0.0, 0.0])
    if role in ("none", "adabn"):
        start = np.array([0.0, role == "none", role == "adabn", 0.0])
    else:
        base = np.array([cell["accuracy"]["none" if rest else "adabn"] for cell in cells])
        share = float(np.median((y - base) / np.maximum(1 - base, 0.05)))
        start = np.array([share, (1 - share) * rest, (1 - share) * (not rest), 0.0])
    if len(cells) < FITTED_FROM:
        return start
    return start + np.linalg.solve(x.T @ x + RIDGE * np.diag([0.1, 1, 1, 1]), x.T @ (y - x @ start))
