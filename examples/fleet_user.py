"""One user of a fleet: choose what to do on the device, within a budget, and ship an undoable patch.

    python examples/fleet_user.py

A fleet owner builds a source card once, where the source data is. A device has the base model, the card,
and a few labeled samples of its user; everything else is decided there. Base model and users are made here,
so that the script runs anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

import tbft

CLASSES = 6


def main() -> None:
    torch.manual_seed(0)
    base = trained(patterns(1800, seed=0))
    with TemporaryDirectory() as name:
        folder = Path(name)
        tbft.build_card(base, patterns(400, seed=1)).save(folder / "base.card.safetensors")
        for user, samples in users().items():
            print(f"\n{user}")
            adapt(base, samples, folder / "base.card.safetensors", folder / f"{user}.safetensors")


def adapt(base: nn.Module, samples: tbft.Samples, card: Path, out: Path) -> None:
    """What a device does: adapt, save the patch, use it, and undo it."""
    before = tbft.fingerprint(base.state_dict())
    try:
        result = tbft.personalize(
            base, samples, card=card, budget=tbft.Budget(cpu_seconds=30, peak_bytes=256 << 20)
        )
    except tbft.TbftError as error:  # wrong data, or a budget that nothing fits into
        print(f"refused: {error}")
        return
    report = result.to_json()  # plain values: what a device would log or send
    keys = ("status", "arm", "accuracy_before", "accuracy_after", "patch_bytes", "cpu_seconds")
    print(json.dumps({"level": report["choice"]["diagnosis"]["name"], **{key: report[key] for key in keys}}))
    match result.status:
        case "unchanged":  # nothing was worth doing
            return
        case "rejected":  # samples that it was not tuned on did not show that it helps
            print(f"rejected: {result.acceptance}")
            return
        case "stopped":  # the budget was spent before anything was learned
            print(f"stopped: {result.stopped}")
            return
    result.patch.save(out)

    undo = tbft.Patch.load(out).apply(base)  # returns the patch that undoes it
    print(f"tuned: {100 * tbft.evaluate(base, samples).score:.0f} % on all samples of the user")
    undo.apply(base)
    assert tbft.fingerprint(base.state_dict()) == before, "base + patch - patch is the base, bit for bit"


def users() -> dict[str, tbft.Samples]:
    """Three users: one like the source, one with a noisy sensor, one whose labels mean something else."""
    samples = tbft.make_samples(*patterns(240, seed=2))
    noise = np.random.default_rng(3).normal(0, 60, samples.inputs.shape)
    noisy = np.clip(0.5 * samples.inputs + 60 + noise, 0, 255).astype(np.uint8)
    return {
        "same": samples,
        "noisy": tbft.make_samples(noisy, samples.labels),
        "relabeled": tbft.apply_drift(samples, "labels:reverse"),
    }


def patterns(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures (count, 16, 16, 1) with one of six textures, and their class numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    tiles = np.random.default_rng(99).integers(0, 2, (CLASSES, 4, 4)) * 120 + 60
    pictures = np.tile(tiles[labels], (1, 4, 4)) + rng.normal(0, 12, (count, 16, 16))
    shifts = rng.integers(0, 4, (count, 2))
    shifted = [np.roll(p, tuple(s), axis=(0, 1)) for p, s in zip(pictures, shifts, strict=True)]
    return np.clip(np.stack(shifted), 0, 255).astype(np.uint8)[..., None], labels


def trained(data: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    """A small network with named blocks, trained in plain PyTorch on pictures in [0, 1]."""
    images = torch.from_numpy(data[0]).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(data[1])
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(4):
        for rows in torch.randperm(len(images)).split(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


class Net(nn.Module):
    """Three blocks: cuts and names are declared where the model is."""

    cuts = ("middle", "rear")
    block_names = ("front", "middle", "rear")

    def __init__(self) -> None:
        super().__init__()
        self.front = block(1, 8)
        self.middle = block(8, 16)
        self.rear = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rear(self.middle(self.front(x)))


def block(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)
    )


if __name__ == "__main__":
    main()
