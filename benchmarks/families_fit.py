"""Fit the gains of each option, and how they go together, on the records of ``families_records.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from families_records import Record

from tbft.choosing.gains import HEAVY, MILD, MIN_WRONG, Gain

#: Families without any gain that are added to those measured.
UNSEEN = 0.5
#: Common factors of the gains, and the share of covariances that is taken for chance.
FACTORS, CHANCE = 4, 0.3
Floats = npt.NDArray[np.float64]


def fit(records: Sequence[Record]) -> dict[str, dict[str, Gain]]:
    """Role -> strength -> gain as a share of the base's errors; families count alike."""
    keys = sorted({(role, s) for r in records for role, s, _ in gains_in(r)})
    gains = np.full((len(records), len(keys)), np.nan)
    for row, record in zip(gains, records, strict=True):
        for role, strength, gain in gains_in(record):
            row[keys.index((role, strength))] = np.clip(gain, -1, 1)
    family = np.array([record["family"] for record in records])
    weight = np.array([1 / (family == name).sum() for name in family])
    base = np.array([record["options"]["none"]["1"][0] for record in records])
    is_mild = base >= (HEAVY + MILD) / 2
    heavy, mild = (_means(gains[rows], weight[rows], family[rows]) for rows in (~is_mild, is_mild))
    share = np.clip((base - HEAVY) / (MILD - HEAVY), 0, 1)[:, None]
    loadings, own = _factors(_covariance(gains - heavy - share * (mild - heavy), weight))
    table: dict[str, dict[str, Gain]] = defaultdict(dict)
    for k, (role, strength) in enumerate(keys):
        factors = tuple(np.round(loadings[k], 3).tolist())
        table[role][strength] = Gain(
            round(float(heavy[k]), 3), round(float(mild[k]), 3), factors, round(float(own[k]), 3)
        )
    return dict(table)


def gains_in(record: Record) -> Iterator[tuple[str, str, float]]:
    """Role, strength and gain of each option as a share of the base's errors."""
    base = record["options"]["none"]["1"][0]
    for option in record["options"].values():
        if option["role"] != "none":
            for strength, (accuracy, *_) in outcomes(option):
                yield option["role"], strength, (accuracy - base) / (1 - base + MIN_WRONG)


def _means(gains: Floats, weight: Floats, family: npt.NDArray[np.str_]) -> Floats:
    """Mean gains (k,) over families, of which UNSEEN without any gain are added; nan: not measured."""
    means = np.zeros(gains.shape[1])
    for k, column in enumerate(gains.T):
        seen = ~np.isnan(column)
        if seen.any():
            count = len(set(family[seen]))
            means[k] = np.average(column[seen], weights=weight[seen]) * count / (count + UNSEEN)
    return means


def _covariance(residuals: Floats, weight: Floats) -> Floats:
    """Covariance (k, k) of residuals (n, k), each from the rows that have both; 0 where there are none."""
    seen = (~np.isnan(residuals)).astype(np.float64)
    values = np.nan_to_num(residuals) * np.sqrt(weight)[:, None]
    found: Floats = values.T @ values / np.maximum((seen * weight[:, None]).T @ seen, 1e-9)
    return (1 - CHANCE) * found + CHANCE * np.diag(np.diag(found))


def _factors(covariance: Floats) -> tuple[Floats, Floats]:
    """Loadings (k, FACTORS) of the largest principal components of the correlation, and what they leave."""
    spread = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    loadings = vectors[:, -FACTORS:] * np.sqrt(np.maximum(values[-FACTORS:], 0))
    own = np.sqrt(np.maximum(1 - (loadings**2).sum(1), 0.02))
    return loadings * spread[:, None], own * spread


def outcomes(option: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Strength -> accuracy on test samples, what was right when held out, accuracy on halves of the test."""
    return ((key, value) for key, value in option.items() if key not in ("role", "cpu_seconds"))
