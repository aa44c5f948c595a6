"""ResNet-18 and MobileNetV2 for ``larger_pictures.py``, with the layers and sizes of their papers, untrained.

torchvision's wheels do not load beside every build of torch, so that the two are written here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from tbft.models.layers import Normalize

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Residual(nn.Module):
    """Two 3x3 convolutions, added to a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    """11.2 million parameters; 1.8 billion multiplications at 224 px."""

    cuts: ClassVar[tuple[str, ...]] = ("layer2", "layer3", "layer4", "fc")
    block_names: ClassVar[tuple[str, ...]] = ("front", "layer2", "layer3", "layer4", "fc")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.normalize = Normalize(*IMAGENET)
        self.stem = nn.Sequential(conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.layer1, self.layer2 = residuals(64, 64, 1), residuals(64, 128, 2)
        self.layer3, self.layer4 = residuals(128, 256, 2), residuals(256, 512, 2)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(self.normalize(x)))
        return self.fc(self.layer4(self.layer3(self.layer2(x))).mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual (Sandler et al. 2018): wider, depthwise, and narrow again."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        wide, self.added = expansion * inputs, stride == 1 and inputs == outputs
        expand = [conv_norm(inputs, wide, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [conv_norm(wide, wide, 3, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *depthwise, conv_norm(wide, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.added else self.layers(x)


class MobileNetV2(nn.Module):
    """2.2 million parameters; 0.3 billion multiplications at 224 px."""

    cuts: ClassVar[tuple[str, ...]] = ("middle", "late", "fc")
    block_names: ClassVar[tuple[str, ...]] = ("front", "middle", "late", "fc")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.normalize = Normalize(*IMAGENET)
        stem = nn.Sequential(conv_norm(3, 32, 3, 2), nn.ReLU6(), Inverted(32, 16, 1, expansion=1))
        self.front = nn.Sequential(stem, inverteds(16, 24, 2, 2), inverteds(24, 32, 3, 2))
        self.middle = nn.Sequential(inverteds(32, 64, 4, 2), inverteds(64, 96, 3, 1))
        last = nn.Sequential(conv_norm(320, 1280, 1), nn.ReLU6())
        self.late = nn.Sequential(inverteds(96, 160, 3, 2), Inverted(160, 320, 1), last)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.front(self.normalize(x)))
        return self.fc(self.late(x).mean((2, 3)))


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def residuals(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Residual(inputs, outputs, stride), Residual(outputs, outputs, 1))


def inverteds(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
    rest = (Inverted(outputs, outputs, 1) for _ in range(count - 1))
    return nn.Sequential(Inverted(inputs, outputs, stride), *rest)
