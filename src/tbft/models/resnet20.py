"""CIFAR ResNet-20 (He et al. 2016, section 4.2, option A), the shape of akamaster/pytorch_resnet_cifar10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tbft.models.layers import Normalize


class SubsampleAndPad(nn.Module):
    """Option A shortcut: every second pixel, zero channels on both sides; no parameters."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pad_channels = (channels_out - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        pad = (0, 0, 0, 0, self.pad_channels, self.pad_channels)
        return nn.functional.pad(x[:, :, ::2, ::2], pad)


class BasicBlock(nn.Module):
    """Convolution, BatchNorm, ReLU, convolution, BatchNorm, added to a shortcut, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else SubsampleAndPad(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.shortcut(x))


class ResNet20(nn.Module):
    """Post-activation CIFAR ResNet with a global average pool and a ``linear`` head.

    Shape:
        (n, 3, height, width) in [0, 1] -> (n, classes) logits.
    """

    cuts: ClassVar[tuple[str, ...]] = ("layer2", "layer3", "linear")
    block_names: ClassVar[tuple[str, ...]] = ("front", "layer2", "layer3", "rear")

    def __init__(
        self,
        classes: int = 10,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, depth, stride=1)
        self.layer2 = _stage(16, 32, depth, stride=2)
        self.layer3 = _stage(32, 64, depth, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(self.normalize(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(channels_in: int, channels_out: int, depth: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(depth - 1)))
