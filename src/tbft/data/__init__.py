"""Samples, readers, splits, and drifts to put on top of them."""

from tbft.data import breeds as _breeds  # registers its class maps
from tbft.data import corruptions as _corruptions  # registers its drifts
from tbft.data import labels as _labels  # registers its drifts
from tbft.data.cifar10c import load_cifar10c
from tbft.data.class_map import ClassMap, apply_class_map, class_maps, find_class_map
from tbft.data.drift import Drift, apply_drift, drifts, find_drifts, register, register_corruption
from tbft.data.reading import read
from tbft.data.samples import Samples, make_samples
from tbft.data.schedule import DriftStream, parse_schedule
from tbft.data.spec import InputSpec
from tbft.data.splitting import Amount, Parts, parse_amount, split_samples

__all__ = [
    "Amount",
    "ClassMap",
    "Drift",
    "DriftStream",
    "InputSpec",
    "Parts",
    "Samples",
    "apply_class_map",
    "apply_drift",
    "class_maps",
    "drifts",
    "find_class_map",
    "find_drifts",
    "load_cifar10c",
    "make_samples",
    "parse_amount",
    "parse_schedule",
    "read",
    "register",
    "register_corruption",
    "split_samples",
]
del _breeds, _corruptions, _labels
