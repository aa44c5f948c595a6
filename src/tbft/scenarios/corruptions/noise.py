"""Noise: gaussian, shot, impulse, speckle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tbft.scenarios.corruptions.shared import (
    Rng,
    corruption,
    standard_normal,
    to_uint8,
    to_unit,
    to_unit_doubles,
)
from tbft.scenarios.drift import Pictures


@corruption(
    "gaussian_noise",
    "sensor noise: normal, independent per pixel and channel",
    small=(0.04, 0.06, 0.08, 0.09, 0.10),
    large=(0.08, 0.12, 0.18, 0.26, 0.38),
)
def gaussian_noise(pictures: Pictures, scale: float, generators: Iterator[Rng]) -> Pictures:
    """x + normal(0, scale)."""
    return to_uint8(to_unit(pictures) + scale * standard_normal(generators, pictures.shape[1:]))


@corruption(
    "shot_noise",
    "photon noise: stronger with fewer photons",
    small=(500, 250, 100, 75, 50),
    large=(60, 25, 12, 5, 3),
)
def shot_noise(pictures: Pictures, photons: float, generators: Iterator[Rng]) -> Pictures:
    """poisson(x * photons) / photons."""
    expected = to_unit_doubles(pictures) * photons
    counted = np.stack([g.poisson(e) for g, e in zip(generators, expected, strict=True)])
    return to_uint8(counted / photons)


@corruption(
    "impulse_noise",
    "salt and pepper noise, independent per pixel and channel",
    small=(0.01, 0.02, 0.03, 0.05, 0.07),
    large=(0.03, 0.06, 0.09, 0.17, 0.27),
)
def impulse_noise(pictures: Pictures, share: float, generators: Iterator[Rng]) -> Pictures:
    """A share of the values becomes 0 or 255: ``skimage.util.random_noise(mode="s&p")``.

    As there, one random number per value decides whether it is replaced, and another by what.
    """
    draws = np.stack([g.random((2, *pictures.shape[1:])) for g in generators])
    replaced, salt = draws[:, 0] < share, draws[:, 1] < 0.5
    impulses = np.where(salt, np.uint8(255), np.uint8(0))
    return np.where(replaced, impulses, to_uint8(to_unit_doubles(pictures)))


@corruption(
    "speckle_noise",
    "normal noise proportional to the value",
    small=(0.06, 0.1, 0.12, 0.16, 0.2),
    large=(0.15, 0.2, 0.35, 0.45, 0.6),
)
def speckle_noise(pictures: Pictures, scale: float, generators: Iterator[Rng]) -> Pictures:
    """x + x * normal(0, scale)."""
    unit = to_unit(pictures)
    return to_uint8(unit + unit * (scale * standard_normal(generators, pictures.shape[1:])))
