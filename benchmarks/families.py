"""Families of real people's motion: small networks, and a base model for each left-out person.

A family is a network together with a kind of data. The base model for a person is trained on everybody else
and kept in a folder, as every benchmark starts from it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import tbft
from tbft.models import load_weights, save_weights

Ints = npt.NDArray[np.int64]


class Standardize(nn.Module):
    """Standardizes channels by their mean and standard deviation on the source."""

    mean: Tensor
    std: Tensor

    def __init__(self, x: npt.NDArray[np.float32]) -> None:
        super().__init__()
        axes = (0, *range(2, x.ndim))
        shape = (1, -1, *[1] * (x.ndim - 2))
        self.register_buffer("mean", torch.from_numpy(x.mean(axes)).reshape(shape))
        self.register_buffer("std", torch.from_numpy(x.std(axes) + 1e-6).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class LastOutput(nn.Module):
    """A GRU's output after the last time step; takes (n, channels, steps)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x.transpose(1, 2))[0][:, -1]


class Encoder(nn.Module):
    """A transformer layer over time; (n, steps, width) -> (n, steps, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Embedding(nn.Module):
    """Patches of time steps with their positions; (n, channels, steps) -> (n, patches, width)."""

    def __init__(self, channels: int, width: int, patches: int = 32) -> None:
        super().__init__()
        self.project = nn.Conv1d(channels, width, 8, 4)
        self.position = nn.Parameter(0.02 * torch.randn(1, patches, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x).transpose(1, 2)
        return x + self.position[:, : x.shape[1]]


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=padding),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


def cnn(x: npt.NDArray[np.float32], classes: int) -> nn.Sequential:
    """A 1-D CNN with BatchNorm."""
    pool = nn.Sequential(_conv(64, 64, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    front = nn.Sequential(Standardize(x), _conv(x.shape[1], 32, 5))
    return _named(front=front, middle=_conv(32, 64, 5), late=pool, fc=nn.Linear(64, classes))


def gru(x: npt.NDArray[np.float32], classes: int) -> nn.Sequential:
    """A convolution and a GRU, without BatchNorm."""
    front = nn.Sequential(Standardize(x), nn.Conv1d(x.shape[1], 32, 5, 2), nn.ReLU())
    return _named(front=front, late=LastOutput(32, 64), fc=nn.Linear(64, classes))


def transformer(x: npt.NDArray[np.float32], classes: int) -> nn.Sequential:
    """A small 1-D transformer, without BatchNorm."""
    front = nn.Sequential(Standardize(x), Embedding(x.shape[1], 48))
    late = nn.Sequential(Encoder(48), Mean())
    return _named(front=front, middle=Encoder(48), late=late, fc=nn.Linear(48, classes))


def mlp(x: npt.NDArray[np.float32], classes: int) -> nn.Sequential:
    """An MLP with BatchNorm on features."""

    def layer(inputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, 64), nn.BatchNorm1d(64), nn.ReLU())

    front = nn.Sequential(Standardize(x), layer(x.shape[1]))
    return _named(front=front, late=layer(64), fc=nn.Linear(64, classes))


def _named(**parts: nn.Module) -> nn.Sequential:
    model = nn.Sequential(OrderedDict(parts))
    model.cuts = tuple(parts)[1:]  # type: ignore[assignment]
    return model


NETWORKS: dict[str, Callable[[npt.NDArray[np.float32], int], nn.Sequential]] = {
    "cnn": cnn, "gru": gru, "transformer": transformer, "mlp": mlp,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class People:
    """A set of several people.

    Attributes:
        inputs: (n, channels, steps) or (n, features).
        labels, person: (n,).
        stretch: (n,), the recording or execution of a sample, in chronological order within a class.
    """

    name: str
    inputs: npt.NDArray[np.float32]
    labels: Ints
    person: Ints
    stretch: Ints
    classes: tuple[str, ...]


@cache
def read_people(name: str) -> People:
    """One of ``watch``, ``phone``, ``phone-and-watch`` and ``wisdm``, below TBFT_DATA."""
    folder = Path(os.environ["TBFT_DATA"]) / "har"
    files = {"watch": "watch_windows", "phone": "uci_har_subset", "phone-and-watch": "phone_and_watch",
             "wisdm": "wisdm_v1.1_transformed"}  # fmt: skip
    with np.load(folder / f"{files[name]}.npz") as file:
        found = {key: file[key] for key in file.files}
    x = found["X"].astype(np.float32)
    x = x.transpose(0, 2, 1) if x.ndim == 3 else np.nan_to_num(x)
    stretch = np.arange(len(x))
    if "series" in found:
        stretch = found["series"]
    if "execution" in found:
        stretch = found["execution"] * 100_000 + found["start"]
    return People(
        name, np.ascontiguousarray(x), found["y"].astype(np.int64), found["subject"].astype(np.int64),
        stretch.astype(np.int64), tuple(found["classes"].astype(str).tolist()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """A person: a base trained on everybody else, its card, and the person's samples in order of time."""

    name: str
    base: tbft.Base
    card: tbft.SourceCard
    samples: tbft.Samples


def person_of(people: People, person: int, network: str, folder: Path, seed: int = 0) -> Person:
    """The base model for a left-out person; trained once and kept in `folder`."""
    others = people.person != person
    x, y = people.inputs[others], people.labels[others]
    torch.manual_seed(seed)
    model = NETWORKS[network](x, len(people.classes))
    path = folder / f"{people.name}-{network}-{person}-{seed}.safetensors"
    held_out = np.random.default_rng(seed).random(len(x)) < 0.1
    if path.exists():
        load_weights(model, path)
    else:
        _train(model, x[~held_out], y[~held_out], seed)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(model.state_dict(), path)
    model.eval()
    base = tbft.Base(tbft.split(model))
    source = tbft.make_samples(x[held_out], y[held_out], people.classes, name=f"{people.name}, source")
    own = np.flatnonzero(~others)
    own = own[np.argsort(people.stretch[own], kind="stable")]
    samples = tbft.make_samples(
        people.inputs[own],
        people.labels[own],
        people.classes,
        {"time": np.arange(len(own))},
        name=f"{people.name}, person {person}",
    )
    return Person(f"{people.name} {person}", base, tbft.build_card(base, source), samples)


def _train(model: nn.Module, x: npt.NDArray[np.float32], y: Ints, seed: int, epochs: int = 8) -> None:
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    steps = epochs * (len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for at in order[: len(x) // 64 * 64].split(64):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(inputs[at]), labels[at]).backward()
            optimizer.step()
            schedule.step()


def earliest(samples: tbft.Samples, labeled: int | None, draw: int = 0) -> tuple[tbft.Samples, tbft.Samples]:
    """The first samples of each class to learn from, and the later half of each class to test on.

    The test part is the same for any number of labels. Windows overlap, so two of each class are left out
    between the parts.

    Args:
        labeled: samples a class, as far as its first half has them; None: the first fifth of each class.
        draw: 1 starts in the middle of the first half instead.
    """
    train, test = [], []
    for label in np.unique(samples.labels):
        own = np.flatnonzero(samples.labels == label)
        half = len(own) // 2
        start = draw * (half // 2)
        count = -(-len(own) // 5) if labeled is None else labeled
        train.append(own[start : start + max(min(count, half - 2 - start), 0)])
        test.append(own[half:])
    return samples.subset(np.sort(np.concatenate(train))), samples.subset(np.sort(np.concatenate(test)))
