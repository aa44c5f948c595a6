"""The figures printed in the paper, under our names, as fractions from 0 to 1. No torch here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

BLOCK_AVERAGE = "block average"
#: The paper's columns under our names, and its tables.
PUBLISHED_METHODS = {
    "block1": "front",
    "block2": "layer2",
    "block3": "layer3",
    "fc": "rear",
    "block_avg": BLOCK_AVERAGE,
    "full": "full",
}
PUBLISHED_TABLES = {
    "noise-motivation": "noise_motivation",
    "cifar10-c": "cifar10_c",
    "cifar-flip": "cifar_flip",
    "living17": "living17",
}


@cache
def paper() -> dict[str, Any]:
    """The paper's tables as printed, in percent."""
    text = resources.files("paper").joinpath("published.json").read_text()
    return dict(json.loads(text))


def published(experiment: str) -> dict[str, dict[str, tuple[float, float]]]:
    """The paper's figures for an experiment: method -> column -> mean and half-width, as fractions.

    >>> published("cifar10-c")["front"]["10 %"]
    (0.7353, 0.0022)
    >>> published("tiny17")
    {}
    """
    if experiment not in PUBLISHED_TABLES:
        return {}
    printed = paper()[PUBLISHED_TABLES[experiment]]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    if experiment == "noise-motivation":
        for tuned, row in printed["tuned"].items():
            columns = zip(printed["columns_noised"], row, strict=True)
            found[PUBLISHED_METHODS[tuned]] = {PUBLISHED_METHODS[c]: _shares(pair) for c, pair in columns}
        return found
    for size in ("10%", "20%", "30%"):
        for name, pair in zip(printed["columns"], printed[size], strict=True):
            found.setdefault(PUBLISHED_METHODS[name], {})[size.replace("%", " %")] = _shares(pair)
    return found


def _shares(pair: Sequence[float]) -> tuple[float, float]:
    return round(pair[0] / 100, 6), round(pair[1] / 100, 6)
