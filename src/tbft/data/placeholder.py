"""Placeholder samples, for costs: the cost of a computation does not depend on what the pictures show."""

from __future__ import annotations

import numpy as np

from tbft.data.samples import Samples, make_samples


def random_pictures(count: int, resolution: int, channels: int = 3, classes: int = 10) -> Samples:
    """Random ``uint8`` pictures (count, resolution, resolution, channels), their classes in turn."""
    shape = (count, resolution, resolution, channels)
    inputs = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return make_samples(inputs, np.arange(count) % classes, name="random pictures")
