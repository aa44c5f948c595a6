"""Rows of sample pictures for a page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tbft.data.samples import Samples
from tbft.report.inputs import Shown, Strip

#: Maximum number of pictures in a strip.
ACROSS = 8


def strips_of(samples: Samples, clean: Samples | None = None) -> list[Strip]:
    """Some of the samples, from as many classes as possible; no strips if they are not pictures.

    Args:
        samples: the samples that the model gets.
        clean: the same samples without the drift that was applied to them, shown above them.
    """
    if not samples.are_pictures or not len(samples):
        return []
    shown = samples.subset(spread(samples.labels))
    strips = [strip("with drift" if clean is not None else "samples", shown)]
    if clean is not None:
        position = {int(id_): row for row, id_ in enumerate(clean.ids)}
        strips.insert(0, strip("clean", clean.subset([position[int(i)] for i in shown.ids])))
    return strips


def spread(labels: npt.NDArray[np.int64], across: int = ACROSS) -> npt.NDArray[np.int64]:
    """Positions of some samples, taking one from each class in turn.

    >>> spread(np.array([0, 0, 0, 1, 2]), 4)
    array([0, 3, 4, 1])
    """
    turn = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    return np.lexsort((labels, turn))[:across]


def strip(caption: str, samples: Samples, labeled: bool = True) -> Strip:
    """The samples in a row, each above its class name."""
    names = [samples.class_names[label] for label in samples.labels]
    pairs = zip(samples.inputs[:], names, strict=True)
    return Strip(caption, [Shown(png(picture), name if labeled else "", name) for picture, name in pairs])


def png(picture: npt.NDArray[Any]) -> bytes:
    """One ``uint8`` picture (h, w, c) as a PNG file."""
    written = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture[..., :3]).save(written, "png")
    return written.getvalue()
