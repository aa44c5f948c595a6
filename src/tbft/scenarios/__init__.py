"""Drifts, schedules and class maps that can be applied to any data set."""

from tbft.data.class_map import ClassMap, apply_class_map, class_maps
from tbft.data.class_map_files import find_class_map
from tbft.scenarios import breeds as _breeds  # registers its class maps
from tbft.scenarios import corruptions as _corruptions  # registers its drifts
from tbft.scenarios import labels as _labels  # registers its drifts
from tbft.scenarios.drift import Drift, apply_drift, drifts, find_drifts, register, register_corruption
from tbft.scenarios.schedule import DriftStream, parse_schedule

__all__ = [
    "ClassMap",
    "Drift",
    "DriftStream",
    "apply_class_map",
    "apply_drift",
    "class_maps",
    "drifts",
    "find_class_map",
    "find_drifts",
    "parse_schedule",
    "register",
    "register_corruption",
]
del _breeds, _corruptions, _labels
