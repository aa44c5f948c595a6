"""A small model and set for `python -m paper`, as ``toys:net`` and ``toys:pictures``; workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tbft.data import Samples, make_samples
from tbft.models.digits import DigitsNet


def net() -> DigitsNet:
    """Trained for a few steps, as no card is made of a model at chance."""
    torch.manual_seed(0)
    model, samples = DigitsNet(3), pictures()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(20):
        x, y = samples.batch(slice(32 * step, 32 * step + 32))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


class Mortal(DigitsNet):
    """Dies while it trains: once, if TOY_GRAVE names a file that is not there yet; always, without it.

    It survives a few batches: how to compute a model is tried out whatever the arm.
    """

    batches = 0

    def forward(self, x: Tensor) -> Tensor:
        self.batches += self.training and torch.is_grad_enabled()
        if self.batches > 8:
            grave = os.environ.get("TOY_GRAVE")
            if grave is None or not Path(grave).exists():
                if grave is not None:
                    Path(grave).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def mortal() -> Mortal:
    model = Mortal(3)
    model.load_state_dict(net().state_dict())
    return model.eval()


def pictures() -> Samples:
    """Noisy 8x8 pictures whose bright row tells the class."""
    generator = np.random.default_rng(0)
    made = generator.integers(0, 120, (1500, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(1500) % 3
    made[np.arange(1500), 2 * labels] += 120
    return make_samples(made, labels, ["row0", "row1", "row2"], name="striped")
