"""Augmented copies of a picture: mixtures of chains of mild operations.

Hendrycks et al., "AugMix" (ICLR 2020), with the strength and the operations of Zhang et al. (2022): none of
them resembles a corruption of CIFAR-10-C (no contrast, color, brightness or sharpness).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tbft.tuning.augment import crop_flip

CHAINS = 3
LONGEST_CHAIN = 3
#: Severity 1 on AugMix's scale of ten; each operation draws its strength from a tenth of it up to all of it.
STRENGTH = 0.1

#: (picture, strength from 0 to 1, direction -1 or 1) -> picture
Operation = Callable[[Image.Image, float, int], Image.Image]


def augmented(picture: npt.NDArray[np.uint8], count: int, generator: np.random.Generator) -> Tensor:
    """Copies of a picture, each cropped, flipped and mixed at random.

    Args:
        picture: (height, width, channels), with one or three channels.

    Returns:
        ``float32`` (count, channels, height, width) in [0, 1].
    """
    draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
    copies = torch.from_numpy(picture.transpose(2, 0, 1).copy()).expand(count, -1, -1, -1)
    cropped = crop_flip(copies, draws).permute(0, 2, 3, 1).numpy()
    mixed = np.stack([_mixed(copy, generator) for copy in cropped])
    return torch.from_numpy(mixed.transpose(0, 3, 1, 2).copy())


def _mixed(picture: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """m * picture + (1 - m) * a weighted mean of chains; m from Beta(1, 1), weights from Dirichlet(1)."""
    weights = generator.dirichlet(np.ones(CHAINS))
    kept = generator.beta(1, 1)
    image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
    mixed = kept * _scaled(image, picture.shape)
    for weight in weights:
        mixed += (1 - kept) * weight * _scaled(_chain(image, generator), picture.shape)
    return mixed.astype(np.float32)


def _chain(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    for _ in range(generator.integers(1, LONGEST_CHAIN + 1)):
        operation = OPERATIONS[generator.integers(len(OPERATIONS))]
        strength = STRENGTH * generator.uniform(0.1, 1)
        image = operation(image, strength, 1 if generator.random() < 0.5 else -1)
    return image


def _scaled(image: Image.Image, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.asarray(image, np.float64).reshape(shape) / 255


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """An affine transform, filled with gray."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_gray(image)
    )


def _gray(image: Image.Image) -> Any:
    return 128 if image.mode == "L" else (128,) * len(image.getbands())


def _rotate(image: Image.Image, strength: float, direction: int) -> Image.Image:
    degrees = direction * int(30 * strength)
    return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=_gray(image))


def _translate_x(image: Image.Image, strength: float, direction: int) -> Image.Image:
    return _affine(image, (1, 0, direction * int(strength * image.width / 3), 0, 1, 0))


def _translate_y(image: Image.Image, strength: float, direction: int) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, direction * int(strength * image.height / 3)))


OPERATIONS: tuple[Operation, ...] = (
    lambda image, strength, direction: ImageOps.autocontrast(image),
    lambda image, strength, direction: ImageOps.equalize(image),
    lambda image, strength, direction: ImageOps.posterize(image, 4 - int(4 * strength)),
    lambda image, strength, direction: ImageOps.solarize(image, 256 - int(256 * strength)),
    lambda image, strength, direction: _affine(image, (1, 0.3 * direction * strength, 0, 0, 1, 0)),
    lambda image, strength, direction: _affine(image, (1, 0, 0, 0.3 * direction * strength, 1, 0)),
    _rotate,
    _translate_x,
    _translate_y,
)
