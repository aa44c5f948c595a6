"""Families of pictures: the models of ``shifts.py`` and a small MobileNet, met by drifts.

The MobileNet is trained on CIFAR-10's training part and kept in a folder.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from shifts import Shift, model_blocks, parts_of, source_parts, suite
from torch import Tensor, nn

import tbft
from tbft.blocks import Blocks
from tbft.data import Samples, read
from tbft.diagnosis.card_building import card_of_samples
from tbft.models import load_weights, save_weights

#: Shifts of the CIFAR models, all of the development half.
DRIFTS = ("gaussian_noise:5", "contrast:5", "labels:reverse", "fog:5", "labels:swap:0.4", "brightness:3",
          "clean", "glass_blur:5", "labels:permute", "defocus_blur:3")  # fmt: skip
MOBILENET, CIFAR = "mobilenet-cifar10", "resnet20-cifar10"
#: Test samples of a drift.
TESTED = 1000
PICTURE_MODELS = (MOBILENET, "resnet20-cifar10", "resnet26-cifar10", "resnet26-tiny17")


class MobileNet(nn.Module):
    """Inverted residuals with depthwise convolutions, for pictures of 32 by 32."""

    cuts = ("middle", "late", "fc")
    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.front = nn.Sequential(stem, _inverted(24, 24, 1))
        self.middle = nn.Sequential(_inverted(24, 40, 2), _inverted(40, 40, 1))
        self.late = nn.Sequential(
            _inverted(40, 80, 2), _inverted(80, 80, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(80, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front((x - 0.47) / 0.25)
        return self.fc(self.late(self.middle(x)))


def _inverted(inputs: int, outputs: int, stride: int) -> nn.Module:
    wide = 3 * inputs
    return nn.Sequential(
        nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
        nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
        nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


def mobilenet(folder: Path, count: int = 30_000, epochs: int = 12) -> MobileNet:
    """The base model; trained once on `count` pictures and kept in `folder`."""
    path, model = folder / f"{MOBILENET}.safetensors", MobileNet()
    if path.exists():
        load_weights(model, path)
        return model.eval()
    samples = read(Path(os.environ["TBFT_DATA"]) / "cifar10" / "train.tar")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(samples), generator=generator)[:count]
    x, y = samples.batch(rows.numpy())
    torch.manual_seed(0)
    model = MobileNet()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    steps = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for at in torch.randperm(len(x), generator=generator)[: steps * 64].split(64):
            mirrored = torch.rand(len(at), 1, 1, 1, generator=generator) < 0.5
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(torch.where(mirrored, x[at].flip(3), x[at])), y[at]).backward()
            optimizer.step()
            schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model.state_dict(), path)
    return model.eval()


@cache
def picture_base(model: str, folder: Path) -> tuple[Blocks, tbft.SourceCard]:
    """A base model and its card."""
    if model != MOBILENET:
        blocks = model_blocks(model)
        return blocks, card_of_samples(blocks, source_parts(model)[0])
    blocks = tbft.split(mobilenet(folder))
    return blocks, card_of_samples(blocks, source_parts(CIFAR)[0])


def picture_shifts(model: str) -> list[Shift]:
    """The drifts that a model meets, all of the development half."""
    name = CIFAR if model == MOBILENET else model
    shifts = [s for s in suite() if s.model == name and s.half == "development"]
    if "cifar" in model:
        return [next(s for s in shifts if s.drift == drift) for drift in DRIFTS]
    return shifts


def picture_parts(shift: Shift, labels: int, draw: int) -> tuple[Samples, Samples] | None:
    """Labels drawn at random, and test samples; None if there are too few."""
    parts = parts_of(shift, labels, draw)
    return None if parts is None else (parts[0], parts[1].subset(slice(0, TESTED)))
