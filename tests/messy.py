"""Small messy sets, made on the fly: what people have, in the ways in which it goes wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: int = 24) -> Image.Image:
    """A smooth random picture; another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR)


def write_tree(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    """`count` different pictures in a folder for each class."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * c + i).save(root / name / f"{i}.png")
    return root


def write_messy_tree(root: Path) -> Path:
    """Cats and dogs with copies: exact, under both classes, re-encoded; and a damaged file."""
    write_tree(root)
    shutil.copy(root / "cat" / "0.png", root / "cat" / "0 (1).png")
    shutil.copy(root / "cat" / "1.png", root / "dog" / "cat.png")
    Image.open(root / "dog" / "2.png").save(root / "dog" / "2.jpg", quality=95)
    (root / "dog" / "9.png").write_bytes((root / "dog" / "3.png").read_bytes()[:60])
    (root / "eel").mkdir()
    picture(7).save(root / "eel" / "only.png")
    return root


def write_windows(path: Path, count: int = 60, **attributes: object) -> Path:
    """Windows of 3 channels and 20 steps, of three classes that their means tell apart, as an ``.npz``."""
    generator = np.random.default_rng(0)
    windows = generator.normal(size=(count, 3, 20)).astype(np.float32)
    labels = np.arange(count) % 3
    windows += 2 * np.eye(3, dtype=np.float32)[labels][:, :, None]
    np.savez(path, X=windows, y=labels, **{k: np.asarray(v) for k, v in attributes.items()})
    return path
