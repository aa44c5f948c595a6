"""What makes two runs the same run: hashes of plain values, with keys that never change.

Folders of records are named by these hashes, and a run is found by them. So the keys here are those of the
first records, whatever the code calls its fields today: ``optimiser``, for one, is spelled as it was then.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbft import Recipe, Samples

#: Samples that are hashed at once.
CHUNK = 1024

#: Keys that are left out where a recipe has this value, so that a new field renames no folder.
DEFAULTS: dict[str, Any] = {
    "schedule": "constant",
    "nesterov": False,
    "track": "all",
    "head_alone": False,
    "least_batch": 16,
    "augment": "none",
    "refresh": False,
    "cache": False,
    "validate": True,
    "channels_last": False,
    "precision": "float32",
    "least_steps": 0,
    "middle_epochs": 0,
    "rear_least_steps": 0,
    "full_rate_from": 0,
    "rate_power": 1 / 3,
    "feature_keeps_below": 0,
    "strength": 1.0,
    "length": 1.0,
    "front": None,
    "solves_head": False,
    "joint_learning_rate": None,
    "joint_min_steps": 0,
    "front_rate_factor": 1.0,
}


#: Fields of a recipe that the first records have under another key.
RENAMED = {
    "optimizer": "optimiser",
    "min_steps": "least_steps",
    "min_batch": "least_batch",
    "rear_min_steps": "rear_least_steps",
}


def recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """What a recipe does, under the keys of the first records; not its name, nor where it comes from.

    A field that is added to :class:`tbft.Recipe` gets a default above; one that is renamed, a line there.
    """
    written = recipe.to_json()
    values = {RENAMED.get(key, key): value for key, value in written.items() if key not in ("name", "source")}
    return {key: value for key, value in values.items() if key not in DEFAULTS or value != DEFAULTS[key]}


def data_digest(samples: Samples) -> str:
    """SHA-256 over inputs, labels and ids, in hex, as in the first records."""
    found = hashlib.sha256(f"{samples.inputs.dtype} {samples.inputs.shape}".encode())
    for start in range(0, len(samples), CHUNK):
        found.update(samples.inputs[start : start + CHUNK].tobytes())
    found.update(samples.labels.tobytes() + samples.ids.tobytes())
    return found.hexdigest()


def hashed(value: Any, digits: int = 16) -> str:
    """A hash of plain values; the order of keys is irrelevant.

    >>> hashed({"a": 1, "b": [2]}) == hashed({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
