"""Synthetic families: small networks that meet a new speaker, writer, machine or plant.

What the others have in common is trained on, and each person differs from them in several ways at once. The
labels of a person are a random draw. ``... clean`` draws from the people trained on instead, so that nothing
can be gained. They need no data, and run in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

import tbft
from tbft.blocks import Blocks
from tbft.data import Samples, make_samples
from tbft.models import load_weights, save_weights

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
#: (samples per class, person, seed) -> inputs and labels.
Generate = Callable[[int, int, int], tuple[Floats, Labels]]
#: The people trained on are 0 to 11; those met are numbered from here.
SOURCE_PEOPLE, FIRST_MET = 12, 102
FONTS = ("DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans", "DejaVuSansMono", "DejaVuSerif",
         "STIXGeneral", "cmr10", "cmss10")  # fmt: skip
LETTERS = "ABEFGHKMNRSZ"


# --- data ---------------------------------------------------------------------------------------


def tones(count: int, person: int, seed: int) -> tuple[Floats, Labels]:
    """Spectrograms (n, 1, 24, 20) of eight gliding tones by a speaker with a pitch, a pace and a room."""
    own, draw, classes = np.random.default_rng(1000 * person + 7), np.random.default_rng(seed), 8
    pitch, tilt = own.normal(0, 2.0), own.normal(0, 0.08, 24).cumsum() * 0.5
    gain, pace = own.normal(0, 0.4), np.exp(own.normal(0, 0.25))
    width, noise = np.exp(own.normal(0, 0.3)), 0.3 + 0.5 * own.random()
    accent, glides = own.normal(0, 1.5, (classes, 3)), np.random.default_rng(5).uniform(3, 21, (classes, 3))
    times, bands, x = np.linspace(0, 1, 20), np.arange(24)[:, None], []
    for label in np.repeat(np.arange(classes), count):
        points = glides[label] + accent[label] * 0.8 + pitch + draw.normal(0, 1.2, 3)
        when = np.clip(times * pace + draw.normal(0, 0.08), 0, 1)
        tone = np.interp(when, [0, 0.5, 1], points)[None]
        peaks = [np.exp(-((bands - harmonic * tone) ** 2) / (2 * width**2)) for harmonic in (1, 1.7)]
        heard = (peaks[0] + 0.5 * peaks[1]) * np.exp(gain)
        x.append(heard + draw.normal(0, noise, (24, 20)) + tilt[:, None])
    return _shuffled(np.stack(x)[:, None], classes, count, draw)


def tables(count: int, person: int, seed: int) -> tuple[Floats, Labels]:
    """Rows (n, 20) of five classes with four kinds each, measured at a plant with scales of its own."""
    own, draw, (classes, width) = (
        np.random.default_rng(1000 * person + 9),
        np.random.default_rng(seed),
        (5, 20),
    )
    kinds = np.random.default_rng(3).normal(0, 1.0, (classes, 4, width))
    scale, shift = np.exp(own.normal(0, 0.25, width)), own.normal(0, 0.6, width)
    moved, shares = own.normal(0, 0.5, (classes, width)), own.dirichlet(np.ones(4) * 0.7, classes)
    x = []
    for label in range(classes):
        kind = draw.choice(4, count, p=shares[label])
        rows = kinds[label, kind] + moved[label] + draw.normal(0, 0.9, (count, width))
        x.append(rows * scale + shift)
    return _shuffled(np.concatenate(x), classes, count, draw)


def glyphs(count: int, person: int, seed: int) -> tuple[Floats, Labels]:
    """Pictures (n, 1, 20, 20) of twelve letters by a writer with a slant, a pen, a paper and two fonts."""
    own, draw, classes = np.random.default_rng(777 + person), np.random.default_rng(seed), len(LETTERS)
    fonts = [FONTS[i] for i in own.choice(len(FONTS), 2, replace=False)]
    slant, turn, size, pen = (
        own.normal(0, 0.35),
        own.normal(0, 14),
        np.exp(own.normal(0, 0.15)),
        own.integers(3),
    )
    ink, paper, noise = own.uniform(0.45, 1), own.uniform(0, 0.3), own.uniform(0.03, 0.22)
    places, x = own.normal(0, 1.5, (classes, 2)), []
    for label in np.repeat(np.arange(classes), count):
        font = _font(fonts[draw.integers(2)], int(26 * size * np.exp(draw.normal(0, 0.06))))
        picture = Image.new("L", (40, 40), 0)
        at = (20 + places[label, 0] + draw.normal(0, 1), 20 + places[label, 1] + draw.normal(0, 1))
        ImageDraw.Draw(picture).text(
            at, LETTERS[label], fill=255, font=font, anchor="mm", stroke_width=int(pen)
        )
        shear = slant + draw.normal(0, 0.08)
        picture = picture.rotate(turn + draw.normal(0, 5))
        affine = (1, shear, -20 * shear, 0, 1, 0)
        picture = picture.transform((40, 40), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        letter = np.asarray(picture.resize((20, 20)), np.float32) / 255
        x.append(paper + letter * (ink - paper) + draw.normal(0, noise, letter.shape))
    return _shuffled(np.stack(x)[:, None], classes, count, draw)


def signals(count: int, person: int, seed: int) -> tuple[Floats, Labels]:
    """Windows (n, 48, 3) of six vibrations, measured at a machine with a speed and a mounting of its own."""
    own, draw, classes = np.random.default_rng(31 * person + 5), np.random.default_rng(seed), 6
    shared = np.random.default_rng(11)
    pitches, shapes = shared.uniform(0.6, 2.5, (classes, 3)), shared.uniform(0.3, 1.2, (classes, 3, 3))
    speed, mounting = np.exp(own.normal(0, 0.22)), np.eye(3) + own.normal(0, 0.3, (3, 3))
    offset, wear, noise = (
        own.normal(0, 0.35, 3),
        np.exp(own.normal(0, 0.2, (classes, 3, 3))),
        own.uniform(0.2, 0.6),
    )
    times, x = np.linspace(0, 2 * np.pi, 48)[:, None], []
    for label in np.repeat(np.arange(classes), count):
        phase = draw.uniform(0, 2 * np.pi, 3)
        pitch = pitches[label] * speed * np.exp(draw.normal(0, 0.05, 3))
        wave = np.sin(times * pitch + phase) @ (shapes[label] * wear[label]).T
        x.append(wave @ mounting.T + offset + draw.normal(0, noise, (48, 3)))
    return _shuffled(np.stack(x), classes, count, draw)


def _shuffled(
    x: npt.NDArray[np.float64], classes: int, count: int, draw: np.random.Generator
) -> tuple[Floats, Labels]:
    order = draw.permutation(classes * count)
    return x[order].astype(np.float32), np.repeat(np.arange(classes), count)[order]


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


# --- networks -----------------------------------------------------------------------------------


def _convolution(inputs: int, outputs: int, bias: bool = True) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias), nn.BatchNorm2d(outputs), nn.ReLU()]


def tones_cnn() -> nn.Module:
    """Convolutions with BatchNorm."""
    return nn.Sequential(
        *_convolution(1, 12), nn.MaxPool2d(2), *_convolution(12, 24), nn.MaxPool2d(2),
        *_convolution(24, 32), nn.Flatten(), nn.Linear(32 * 6 * 5, 8),
    )  # fmt: skip


class TonesGroupNorm(nn.Module):
    """Convolutions over time with GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv1d(24, 32, 3, padding=1), nn.GroupNorm(4, 32)
        self.c2, self.n2 = nn.Conv1d(32, 48, 3, padding=1), nn.GroupNorm(4, 48)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(48 * 5, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.relu(self.n1(self.c1(x.squeeze(1)))), 2)
        x = F.max_pool1d(F.relu(self.n2(self.c2(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.n1, self.qkv, self.o = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.n2 = nn.LayerNorm(width)
        self.m = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v))
        return x + self.m(self.n2(x))


class TonesTransformer(nn.Module):
    """A small vision transformer on patches of the spectrogram."""

    def __init__(self, classes: int = 8, width: int = 48) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, (6, 5), (6, 5))
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*[_Attention(width) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


def tables_mlp() -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))


def tables_mlp_norm() -> nn.Module:
    """Two hidden layers with BatchNorm."""
    return nn.Sequential(
        nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 5),
    )  # fmt: skip


def glyphs_cnn() -> nn.Module:
    """Convolutions with BatchNorm and global pooling."""
    parts = [
        nn.Sequential(*_convolution(a, b, bias=False)) for a, b in ((1, 16), (16, 32), (32, 32), (32, 48))
    ]
    return nn.Sequential(
        parts[0], nn.MaxPool2d(2), parts[1], parts[2], nn.MaxPool2d(2), parts[3],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, len(LETTERS)),
    )  # fmt: skip


class SignalsLstm(nn.Module):
    """Two LSTM layers and the mean over time."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.proj = nn.Linear(3, 24)
        self.rnn, self.rnn2 = nn.LSTM(24, 32, batch_first=True), nn.LSTM(32, 32, batch_first=True)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.rnn(torch.relu(self.proj(x)))
        return self.fc(self.rnn2(x)[0].mean(1))


SYNTHETIC: dict[str, tuple[Callable[[], nn.Module], Generate]] = {
    "tables-mlp": (tables_mlp, tables),
    "tables-mlp-norm": (tables_mlp_norm, tables),
    "tones-cnn": (tones_cnn, tones),
    "tones-group-norm": (TonesGroupNorm, tones),
    "tones-transformer": (TonesTransformer, tones),
    "glyphs-cnn": (glyphs_cnn, glyphs),
    "signals-lstm": (SignalsLstm, signals),
}
CLEAN = tuple(
    f"{name} clean" for name in ("tables-mlp", "tables-mlp-norm", "tones-group-norm", "signals-lstm")
)


# --- bases and parts ----------------------------------------------------------------------------


@cache
def synthetic_base(family: str, folder: Path) -> tuple[Blocks, tbft.SourceCard]:
    """A base model, trained once and kept in `folder`, and its card."""
    make, generate = SYNTHETIC[family.removesuffix(" clean")]
    path = folder / f"{family.removesuffix(' clean')}.safetensors"
    torch.manual_seed(0)
    model = make()
    if path.exists():
        load_weights(model, path)
    else:
        _train(model, *_of_source(generate, 60, 100))
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(model.state_dict(), path)
    held_out = make_samples(*_of_source(generate, 30, 900))
    blocks = tbft.split(model.eval(), example=torch.from_numpy(np.asarray(held_out.inputs[:4])))
    return blocks, tbft.build_card(blocks, held_out)


def _of_source(generate: Generate, count: int, seed: int) -> tuple[Floats, Labels]:
    drawn = [generate(count, person, seed + person) for person in range(SOURCE_PEOPLE)]
    return np.concatenate([x for x, _ in drawn]), np.concatenate([y for _, y in drawn])


def _train(model: nn.Module, inputs: Floats, labels: Labels, epochs: int = 12, rate: float = 2e-3) -> None:
    torch.manual_seed(0)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * (len(y) // 64) + 5)
    model.train()
    for _ in range(epochs):
        for at in torch.randperm(len(y))[: len(y) // 64 * 64].split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
            schedule.step()


def synthetic_parts(family: str, number: int, labels: int, draw: int) -> tuple[Samples, Samples]:
    """Labels of a person drawn at random, and test samples; of ``clean`` from all people trained on."""
    _, generate = SYNTHETIC[family.removesuffix(" clean")]
    if not family.endswith(" clean"):
        person = FIRST_MET + number
        train = generate(labels, person, 7000 + person + 1000 * draw)
        return make_samples(*train), make_samples(*generate(250, person, 5000 + person))
    x, y = _of_source(generate, labels, 40_000 + 100 * number + 50 * draw)
    generator = np.random.default_rng(number)
    rows = [generator.permutation(np.flatnonzero(y == label))[:labels] for label in np.unique(y)]
    train = x[np.concatenate(rows)], y[np.concatenate(rows)]
    return make_samples(*train), make_samples(*_of_source(generate, 40, 30_000))
