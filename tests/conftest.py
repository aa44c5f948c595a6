"""Shared fixtures: small models and sets that run in milliseconds, and the place of the real data."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tbft.blocks import Blocks, split
from tbft.data import Samples, make_samples
from tbft.models.digits import DigitsNet
from tbft.report import drawing


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small models are quickest on one thread, and then do not mind a busy machine."""
    threads = torch.get_num_threads()
    if request.node.get_closest_marker("data") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever measures energy on the machine that runs the tests is not looked at."""
    monkeypatch.setenv("TBFT_SYSFS_ROOT", "/nonexistent")
    monkeypatch.setenv("TBFT_VCGENCMD", "no-such-command")
    monkeypatch.delenv("TBFT_METER_LOG", raising=False)
    monkeypatch.delenv("TBFT_PROFILE", raising=False)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that use it are marked `data`."""
    place = os.environ.get("TBFT_DATA")
    if not place or not Path(place).is_dir():
        pytest.skip("TBFT_DATA names no folder of real data")
    return Path(place)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without anything on them, for tests of the words around them: drawing takes time."""
    monkeypatch.setattr(drawing, "draw_svg", lambda *_: "<svg/>")


@pytest.fixture
def digits_blocks() -> Blocks:
    torch.manual_seed(0)
    return split(DigitsNet(3))


def heed_interrupts() -> None:
    """For `preexec_fn`: processes from the background of a shell, or of nohup, would ignore these signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def striped(count: int = 60, classes: int = 3, seed: int = 0) -> Samples:
    """Noisy 8x8 pictures whose bright row tells the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pictures = generator.integers(0, 120, (count, 8, 8, 1), dtype=np.uint8)
    pictures[np.arange(count), 2 * labels] += 120
    return make_samples(pictures, labels, [f"row{c}" for c in range(classes)], name="striped")


def fitted(model: nn.Module, inputs: Any, labels: Any, steps: int = 60, rate: float = 1e-2) -> nn.Module:
    """The model after a few steps on all samples, in evaluation mode."""
    x, y = torch.as_tensor(inputs), torch.as_tensor(labels)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def put(path: Path, content: bytes) -> Path:
    """Write a file, in folders that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def stripes() -> Samples:
    return striped()
