"""Adapt your own PyTorch model to a new sensor, with labeled tensors.

    python examples/own_model.py

The model and the pictures are made here, so that the script runs anywhere: gratings in four directions,
    first from
a clean sensor, then from one with an inverted signal, less gain and noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import tbft


def main() -> None:
    torch.manual_seed(0)
    model = trained(gratings(1000))
    images, labels = gratings(300)
    images = new_sensor(images)

    # The five lines: adapt, print, compare, save.
    result = tbft.personalize(model, (images, labels), arm="front", test=0.4, cuts=["4", "8"])
    print(result)
    with result.patch.applied(model):  # the tuned model inside, the base model again outside
        print(f"inside:  {100 * accuracy(model, images, labels):.1f} % correct")
    print(f"outside: {100 * accuracy(model, images, labels):.1f} % correct")


def gratings(count: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, 1, 16, 16) in [0, 1], and their directions (count,) as class numbers 0 to 3."""
    labels = torch.arange(count) % 4
    angles = labels * math.pi / 4
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    along = x * torch.cos(angles)[:, None, None] + y * torch.sin(angles)[:, None, None]
    phases = 2 * math.pi * torch.rand(count, 1, 1)
    pictures = 0.5 + 0.4 * torch.sin(1.2 * along + phases) + 0.05 * torch.randn(count, 16, 16)
    return pictures.clamp(0, 1)[:, None], labels


def new_sensor(images: Tensor) -> Tensor:
    """The pictures as another sensor sees them."""
    return (0.6 - 0.25 * images + 0.06 * torch.randn_like(images)).clamp(0, 1)


def trained(data: tuple[Tensor, Tensor]) -> nn.Module:
    """A small network, trained in plain PyTorch."""
    images, labels = data
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(4):
        for rows in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return tbft.evaluate(model, (images, labels)).score


if __name__ == "__main__":
    main()
