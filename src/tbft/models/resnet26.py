"""ResNet-26 as in Huang et al. (EuroMLSys 2024), state-dict compatible with its released checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tbft.models.layers import Normalize, ShrinkAndPad


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, added to a shortcut (He et al. 2016, pre-activation)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else ShrinkAndPad(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(torch.relu(self.bn1(x)))
        out = self.conv2(torch.relu(self.bn2(out)))
        return out + self.shortcut(x)


class ResNet26(nn.Module):
    """Pre-activation ResNet of three stages; 26 layers at the default `depth` of 4 blocks per stage.

    The last map is pooled over 8x8 fields and flattened, so the number of features grows with the
    resolution: 64 at 32 px, 1,024 at 128 px.

    Args:
        classes: number of outputs.
        resolution: side of the square input in px, a multiple of 32.
        mean, std: per-channel normalization applied inside the model; data stay in [0, 1].
        depth: residual blocks per stage; the network has ``6 * depth + 2`` layers.

    Shape:
        (n, 3, resolution, resolution) in [0, 1] -> (n, classes) logits.
    """

    cuts: ClassVar[tuple[str, ...]] = ("layer2", "layer3", "bn")
    block_names: ClassVar[tuple[str, ...]] = ("front", "layer2", "layer3", "rear")

    def __init__(
        self,
        classes: int = 10,
        resolution: int = 32,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        depth: int = 4,
    ) -> None:
        super().__init__()
        if resolution <= 0 or resolution % 32:
            raise ValueError(f"resolution has to be a multiple of 32 px, not {resolution}")
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16, depth, stride=1)
        self.layer2 = _stage(16, 32, depth, stride=2)
        self.layer3 = _stage(32, 64, depth, stride=2)
        self.bn = nn.BatchNorm2d(64)
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64 * (resolution // 32) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.conv1(self.normalize(x)))
        x = self.layer3(self.layer2(x))
        x = self.pool(torch.relu(self.bn(x)))
        return self.fc(torch.flatten(x, 1))


def _stage(channels_in: int, channels_out: int, depth: int, stride: int) -> nn.Sequential:
    first = PreActBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(PreActBlock(channels_out, channels_out, 1) for _ in range(depth - 1)))
