"""Samples, readers by kind of file, and splits."""

import importlib
from typing import Any

from tbft.data.amounts import Amount, Amounts, SplitBy, parse_amount
from tbft.data.cifar10c import load_cifar10c
from tbft.data.parts import as_parts
from tbft.data.reading import read
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.splitting import Parts, split_by, split_samples
from tbft.data.summary import Summary, describe

__all__ = [
    "Amount",
    "Amounts",
    "InputSpec",
    "Parts",
    "Samples",
    "SplitBy",
    "Summary",
    "as_parts",
    "describe",
    "load_cifar10c",
    "make_samples",
    "parse_amount",
    "read",
    "split_by",
    "split_samples",
]


def __getattr__(name: str) -> Any:
    if name == "DriftStream":  # a stream of samples is data to its readers; the drift that it applies is not
        return importlib.import_module("tbft.scenarios.schedule").DriftStream
    raise AttributeError(f"module 'tbft.data' has no attribute {name!r}")
