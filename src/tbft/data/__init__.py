"""Samples, readers, splits, and drifts to put on top of them."""

from tbft.data import corruptions as _corruptions  # registers its drifts
from tbft.data import labels as _labels  # registers its drifts
from tbft.data.drift import Drift, apply_drift, drifts, find_drifts, register, register_corruption
from tbft.data.reading import read
from tbft.data.samples import Samples, make_samples
from tbft.data.spec import InputSpec
from tbft.data.splitting import Amount, Parts, parse_amount, split_samples

__all__ = [
    "Amount",
    "Drift",
    "InputSpec",
    "Parts",
    "Samples",
    "apply_drift",
    "drifts",
    "find_drifts",
    "make_samples",
    "parse_amount",
    "read",
    "register",
    "register_corruption",
    "split_samples",
]
del _corruptions, _labels
