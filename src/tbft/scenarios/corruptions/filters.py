"""Linear filters on batches of pictures: separable operators, small kernels, motion blur.

A filter along one axis is a matrix, computed by applying SciPy's own filter to the identity, so that borders
and rounding are SciPy's. Applying it to a batch is a matrix product, which is many times faster than SciPy's
loops on small pictures.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tbft.scenarios.corruptions.shared import Doubles, Floats, scipy_ndimage
from tbft.scenarios.drift import Pictures


@lru_cache(maxsize=64)
def gaussian_operator(size: int, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Doubles:
    """Gaussian smoothing along an axis of `size`, with the defaults of ``skimage.filters.gaussian``."""
    identity = np.eye(size)
    if sigma > 0:
        identity = scipy_ndimage().gaussian_filter1d(identity, sigma, axis=0, mode=mode, truncate=truncate)
    return identity


@lru_cache(maxsize=256)
def zoom_operator(size: int, factor: float) -> Doubles:
    """The middle of an axis of `size`, enlarged linearly by `factor` and trimmed to `size` again."""
    kept = math.ceil(size / factor)
    start = (size - kept) // 2
    enlarged = scipy_ndimage().zoom(np.eye(kept), (factor, 1), order=1)
    trim = (len(enlarged) - size) // 2
    operator = np.zeros((size, size))
    operator[:, start : start + kept] = enlarged[trim : trim + size]
    return operator


def along_axes(planes: Floats, rows: Doubles, columns: Doubles) -> Floats:
    """Apply an operator along each axis of planes (..., h, w), in the precision of the planes."""
    across: Floats = planes @ columns.T.astype(planes.dtype)
    out: Floats = rows.astype(planes.dtype) @ across
    return out


def gaussian(planes: Floats, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Floats:
    """Smooth planes (..., h, w) with a Gaussian of `sigma` pixels."""
    h, w = planes.shape[-2:]
    rows, columns = (gaussian_operator(size, sigma, mode, truncate) for size in (h, w))
    return along_axes(planes, rows, columns)


def to_planes(pictures: Floats) -> Floats:
    """(n, h, w, c) as contiguous (n, c, h, w)."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def from_planes(planes: Floats) -> Floats:
    """(n, c, h, w) as (n, h, w, c)."""
    return planes.transpose(0, 2, 3, 1)


def correlate(pictures: Floats, kernel: Floats) -> Floats:
    """Correlate pictures (n, h, w, ...) with an odd kernel; borders are mirrored without the edge pixel.

    The same as ``cv2.filter2D``, with one shifted copy for each nonzero tap.
    """
    (up, left), (h, w) = (k // 2 for k in kernel.shape), pictures.shape[1:3]
    padded = pad(pictures, up, left, "reflect")
    out = np.zeros_like(pictures)
    for i, j in np.argwhere(kernel):
        out += kernel[i, j].astype(out.dtype) * padded[:, i : i + h, j : j + w]
    return out


def pad(pictures: npt.NDArray[np.generic], rows: int, columns: int, mode: str) -> Floats:
    """Pad height and width on both sides, as ``np.pad``."""
    width = [(0, 0), (rows, rows), (columns, columns)] + [(0, 0)] * (pictures.ndim - 3)
    padded: Floats = np.pad(pictures, width, mode=mode)  # type: ignore[call-overload]
    return padded


def motion_kernel(radius: float, sigma: float) -> npt.NDArray[np.float32]:
    """The ``2 ceil(radius) + 1`` weights along the path: a Gaussian from its peak to one side.

    ImageMagick, ``GetMotionBlurKernel``.
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights: Doubles = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    return weights.astype(np.float32)


def motion_path(length: int, degrees: float) -> npt.NDArray[np.int64]:
    """Rows and columns (length, 2) of the path, relative to the pixel; not antialiased.

    ImageMagick, ``MotionBlurImage``.
    """
    angle = np.deg2rad(degrees)
    steps: Doubles = np.arange(length)[:, None] * np.array([np.sin(angle), np.cos(angle)])
    return np.ceil(steps - 0.5).astype(np.int64)


def motion_blur(pictures: Pictures, radius: float, sigma: float, degrees: npt.ArrayLike) -> Pictures:
    """ImageMagick's motion blur, each picture (n, h, w, c) at its own angle; borders repeat the edge.

    ImageMagick computes in 16 bits, where a gray level is 257 steps: it rounds to a step, and then truncates
    to a level when it writes 8 bits.
    """
    n, h, w, _ = pictures.shape
    weights = motion_kernel(radius, sigma) * np.float32(257)
    reach = len(weights) - 1
    padded = pad(pictures, reach, reach, "edge").astype(np.float32)
    blurred = np.zeros(pictures.shape, np.float32)
    for i, angle in enumerate(np.broadcast_to(degrees, (n,))):
        for weight, (y, x) in zip(weights, motion_path(len(weights), float(angle)) + reach, strict=True):
            blurred[i] += weight * padded[i, y : y + h, x : x + w]
    return (np.rint(blurred).astype(np.int32) // 257).astype(np.uint8)
