"""Corruptions of pictures, with the constants and the rounding of CIFAR-10-C.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), script ``make_cifar_c.py``: values in [0, 1], clipped, times 255,
truncated to ``uint8``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tbft.data.drift import Pictures, register_corruption

_SOURCE = "CIFAR-10-C (Hendrycks & Dietterich 2019)"


@register_corruption("gaussian_noise", "sensor noise, normal, independent per pixel and channel", _SOURCE)
def gaussian_noise(pictures: Pictures, severity: int, generators: Iterable[np.random.Generator]) -> Pictures:
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noise = (g.standard_normal(pictures.shape[1:], dtype=np.float32) for g in generators)
    out = np.empty_like(pictures)
    for i, n in enumerate(noise):
        out[i] = _to_uint8(_to_unit(pictures[i]) + scale * n)
    return out


@register_corruption("brightness", "the value of HSV raised; hue and saturation stay", _SOURCE)
def brightness(pictures: Pictures, severity: int, generators: Iterable[np.random.Generator]) -> Pictures:
    raised_by = (0.05, 0.10, 0.15, 0.20, 0.30)[severity - 1]
    unit = _to_unit(pictures)
    value = unit.max(axis=-1, keepdims=True)
    raised = np.minimum(value + raised_by, 1.0)
    # Hue and saturation stay when all channels scale alike; black has neither and becomes grey.
    scaled = np.where(value > 0, unit * (raised / np.where(value > 0, value, 1.0)), raised)
    # HSV and back leaves values a rounding error below whole grey levels, where truncation bites.
    return _to_uint8(scaled + 1e-6)


@register_corruption("contrast", "drawn towards the picture's mean colour", _SOURCE)
def contrast(pictures: Pictures, severity: int, generators: Iterable[np.random.Generator]) -> Pictures:
    kept = (0.75, 0.50, 0.40, 0.30, 0.15)[severity - 1]
    unit = _to_unit(pictures)
    mean = unit.mean(axis=(1, 2), keepdims=True)
    return _to_uint8((unit - mean) * kept + mean)


def _to_unit(pictures: Pictures) -> npt.NDArray[np.float32]:
    return pictures.astype(np.float32) / np.float32(255)


def _to_uint8(unit: npt.NDArray[np.floating]) -> Pictures:
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)
