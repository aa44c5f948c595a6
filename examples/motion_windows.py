"""Adapt a recognizer of exercises to one person, with windows of wrist motion from an .npz file.

    python examples/motion_windows.py
    TBFT_DATA=/folder/of/data python examples/motion_windows.py

With TBFT_DATA, the windows are those of ``har/watch_windows.npz`` (ten people, seven exercises, from the
package seglearn); without it, windows with the same arrays are made up. The base model is trained on
everybody but one person, and adapted to that person with the first windows of each exercise, as on a
device.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

import tbft

PERSON = 7


def main() -> None:
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        path = recorded() or made_up(Path(folder) / "windows.npz")
        others = tbft.read(path, where=[f"subject!={PERSON}"])
        person = tbft.read(path, where={"subject": str(PERSON)})
    model = trained(others)
    print(f"{len(person)} windows of person {PERSON}, model trained on {len(others)} windows of other people")

    # Windows overlap, so a random split would be too optimistic: the first fifth of each exercise is labeled
    # (and the next windows decide acceptance), and the model is tested on everything later.
    parts = tbft.split_samples(person, train="first:20%", val="4/class", test="rest", group_by="none")
    result = tbft.personalize(model, parts, arm="rear")
    print(result)


def recorded() -> Path | None:
    """The file of recorded windows, if there is one."""
    path = Path(os.environ.get("TBFT_DATA", "")) / "har" / "watch_windows.npz"
    return path if path.is_file() else None


def made_up(path: Path) -> Path:
    """Write an .npz with windows X (n, steps, channels), labels y and the person of each window."""
    rng = np.random.default_rng(0)
    windows, labels, subjects = [], [], []
    time = np.arange(100) / 50  # seconds, at 50 Hz
    speeds, shapes = rng.uniform(0.5, 3, 7), rng.normal(0, 1, (7, 6))
    for subject in range(10):
        turned = np.linalg.qr(np.eye(6) + 0.25 * (1 + 2 * (subject == PERSON)) * rng.normal(0, 1, (6, 6)))[0]
        pace = rng.uniform(0.85, 1.15)
        for label in range(7):
            phases = rng.uniform(0, 2 * np.pi, (40, 1))
            signal = np.sin(2 * np.pi * pace * speeds[label] * time + phases)
            window = signal[:, :, None] * (shapes[label] @ turned) + rng.normal(0, 0.4, (40, 100, 6))
            windows.append(window.astype(np.float32))
            labels += 40 * [label]
            subjects += 40 * [subject]
    np.savez(path, X=np.concatenate(windows), y=np.array(labels), subject=np.array(subjects))
    return path


def trained(samples: tbft.Samples) -> nn.Module:
    """A 1-D network, trained in plain PyTorch."""
    model = Net(len(samples.class_names))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(5):
        for rows in torch.randperm(len(samples)).split(64):
            x, y = samples.batch(rows.numpy())
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


class Net(nn.Module):
    """Three blocks over windows (n, steps, channels)."""

    cuts = ("middle", "rear")
    block_names = ("front", "middle", "rear")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.front = nn.Sequential(
            ChannelsFirst(), nn.Conv1d(6, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU()
        )
        self.middle = nn.Sequential(nn.Conv1d(16, 24, 5, padding=2, stride=2), nn.BatchNorm1d(24), nn.ReLU())
        self.rear = nn.Sequential(nn.AdaptiveMaxPool1d(4), nn.Flatten(), nn.Linear(96, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rear(self.middle(self.front(x)))


class ChannelsFirst(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


if __name__ == "__main__":
    main()
