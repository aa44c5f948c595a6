"""Adapt a model of timm, cut after its stages, to a new camera.

    pip install 'tbft[timm]'
    python examples/timm_model.py

Nothing is downloaded: the network starts from random weights and is trained here for a moment on colored
gratings, so that the script runs anywhere. With a checkpoint of your own,
`tbft.load_base("timm:NAME?classes=10", "weights.pth")` takes its place, and on the command line
`timm:NAME?classes=10` stands wherever a model is named.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import tbft

MODEL = "timm:mobilenetv3_small_050?classes=4&resolution=32"


def main() -> None:
    torch.manual_seed(0)
    blocks = tbft.split(MODEL)
    print(f"blocks {', '.join(blocks.names)}, head {blocks.head}")
    train(blocks.model, gratings(400, seed=0))
    images, labels = gratings(300, seed=1)
    darker = (0.4 * images + 60).astype(np.uint8)
    result = tbft.personalize(blocks, (darker, labels), arm=blocks.names[-1], test=0.4)
    print(result)


def gratings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 32, 32, 3) with stripes in four directions, and their class numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    angles = (labels * np.pi / 4)[:, None, None]
    y, x = np.mgrid[0:32, 0:32]
    waves = np.sin(0.8 * (x * np.cos(angles) + y * np.sin(angles)) + 6 * rng.random((count, 1, 1)))
    pictures = 128 + 90 * waves[..., None] * rng.uniform(0.5, 1, (count, 1, 1, 3))
    return np.clip(pictures + rng.normal(0, 10, pictures.shape), 0, 255).astype(np.uint8), labels


def train(model: nn.Module, data: tuple[np.ndarray, np.ndarray]) -> None:
    """A moment of training, in plain PyTorch."""
    images, labels = torch.from_numpy(data[0]).permute(0, 3, 1, 2) / 255, torch.from_numpy(data[1])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(4):
        for rows in torch.randperm(len(images)).split(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    model.eval()


if __name__ == "__main__":
    main()
