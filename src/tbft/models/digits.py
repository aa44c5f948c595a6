"""A small convolutional network for 8x8 pictures of handwritten digits, trained in seconds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class DigitsNet(nn.Module):
    """Four 3x3 convolutions with BatchNorm, the first two in the front block, and a linear head.

    Shape:
        (n, 1, 8, 8) in [0, 1] -> (n, classes) logits.
    """

    cuts: ClassVar[tuple[str, ...]] = ("conv2", "conv3", "fc")
    block_names: ClassVar[tuple[str, ...]] = ("front", "middle", "late", "rear")

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(_conv(1, 32), _conv(32, 32))
        self.conv2 = _conv(32, 64, stride=2)
        self.conv3 = _conv(64, 64, stride=2)
        self.fc = nn.Linear(64 * 2 * 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.conv2(self.conv1(x)))
        return self.fc(torch.flatten(x, 1))


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
