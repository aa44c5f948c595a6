"""Models by name, and checkpoints."""

from tbft.models import presets as _presets  # registers the presets of tbft
from tbft.models.checkpoints import load_state, load_weights, read_state, read_state_for, save_weights
from tbft.models.named_tensors import with_counters
from tbft.models.preset import Preset
from tbft.models.registry import find_model, presets, register

__all__ = [
    "Preset",
    "find_model",
    "load_state",
    "load_weights",
    "presets",
    "read_state",
    "read_state_for",
    "register",
    "save_weights",
    "with_counters",
]
del _presets
