"""Reference models with their declared cuts, and checkpoints."""

from tbft.models import presets as _presets  # registers what tbft brings
from tbft.models.checkpoints import load_state, load_weights, read_state, save_weights, with_counters
from tbft.models.registry import Preset, find_model, presets, register

__all__ = [
    "Preset",
    "find_model",
    "load_state",
    "load_weights",
    "presets",
    "read_state",
    "register",
    "save_weights",
    "with_counters",
]
del _presets
