"""Rows of sample pictures for a page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tbft.data.samples import Samples
from tbft.report.inputs import Shown, Strip

#: A strip is at most this many pictures wide.
ACROSS = 8


def strips_of(met: Samples, clean: Samples | None = None) -> list[Strip]:
    """A few of the samples, of as many classes as possible; no strip where they are not pictures.

    Args:
        met: as the model meets them.
        clean: the same set without the drift that was put on top of it, to be shown above.
    """
    if not met.are_pictures or not len(met):
        return []
    shown = met.subset(spread(met.labels))
    strips = [strip("as they are met", shown)]
    if clean is not None:
        position = {int(i): at for at, i in enumerate(clean.ids)}
        strips.insert(0, strip("clean", clean.subset([position[int(i)] for i in shown.ids])))
    return strips


def spread(labels: npt.NDArray[np.int64], across: int = ACROSS) -> npt.NDArray[np.int64]:
    """Positions of a few samples, taking one of each class in turn.

    >>> spread(np.array([0, 0, 0, 1, 2]), 4)
    array([0, 3, 4, 1])
    """
    turn = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    return np.lexsort((labels, turn))[:across]


def strip(caption: str, samples: Samples, labeled: bool = True) -> Strip:
    """These samples in a row, each above its class."""
    names = [samples.class_names[label] for label in samples.labels]
    pairs = zip(samples.inputs[:], names, strict=True)
    return Strip(caption, [Shown(png(picture), name if labeled else "", name) for picture, name in pairs])


def png(picture: npt.NDArray[Any]) -> bytes:
    """One ``uint8`` picture (h, w, c) as a PNG file."""
    written = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture[..., :3]).save(written, "png")
    return written.getvalue()
