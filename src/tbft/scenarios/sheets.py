"""Contact sheets of samples, of a drift, or of a schedule of drifts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tbft.data.samples import Samples, make_samples
from tbft.data.viewing import resize
from tbft.errors import DataError, MissingExtraError
from tbft.scenarios.drift import Pictures, apply_drift, drifts
from tbft.scenarios.schedule import parse_schedule

#: Photos that ship with scikit-image, which the extra `corruptions` installs: file -> class.
PHOTOS = {"astronaut.png": "astronaut", "chelsea.png": "cat", "coffee.png": "coffee", "rocket.jpg": "rocket"}

#: Maximum number of pictures in a row.
ACROSS = 8
_TEXT = 14  # height of a line of text, px
_GAP = 2

#: A caption and the pictures beside it, labeled below with their classes.
Row = tuple[str, Samples]


def set_sheet(samples: Samples) -> Image.Image:
    """A row of pictures for each class."""
    rows = []
    for label in np.unique(samples.labels):
        members = np.flatnonzero(samples.labels == label)[:ACROSS]
        rows.append((samples.class_names[label], samples.subset(members)))
    return _sheet(rows, below=False)


def domain_sheet(samples: Samples) -> Image.Image:
    """Two rows for each class, source and target, of samples read with a class map."""
    domains = samples.attributes["domain"]
    rows = []
    for label in np.unique(samples.labels):
        for domain in np.unique(domains):
            members = np.flatnonzero((samples.labels == label) & (domains == domain))
            if len(members):
                leaves = np.unique(samples.attributes["leaf"][members], return_inverse=True)[1]
                shown = _spread(replace(samples.subset(members), labels=leaves))
                rows.append((f"{samples.class_names[label].split(',')[0]}, {domain}", shown))
    return _sheet(rows, below=False)


def scenario_sheet(scenario: str, samples: Samples | None = None, seed: int = 0) -> Image.Image:
    """The same pictures without drift and at every step of a scenario.

    Args:
        scenario: a drift, a mixture or a schedule; the bare name of a drift shows its examples, such as all
            severities of a corruption.
        samples: pictures; None: four photos from scikit-image at 128 px.

    Raises:
        DataError: an unknown drift, or inputs that are not pictures.
    """
    return _sheet(scenario_rows(scenario, photos() if samples is None else samples, seed), below=True)


def scenario_rows(scenario: str, samples: Samples, seed: int = 0, across: int = ACROSS) -> list[Row]:
    """A few samples, of as many classes as possible, without drift and at every step of a scenario."""
    shown = _spread(samples, across)
    rows = [("clean", shown)] if "," not in scenario else []
    return [*rows, *((step, apply_drift(shown, step, seed)) for step in steps_of(scenario))]


def png(picture: Pictures) -> bytes:
    """One picture (h, w, c) as a PNG file."""
    written = io.BytesIO()
    _enlarged(picture, 1).save(written, "png")
    return written.getvalue()


def steps_of(scenario: str) -> tuple[str, ...]:
    """The drifts that the sheet of a scenario shows, one per row.

    >>> steps_of("contrast"), steps_of("contrast:5")
    (('contrast:1', 'contrast:2', 'contrast:3', 'contrast:4', 'contrast:5'), ('contrast:5',))
    """
    named = {drift.name: drift for drift in drifts()}
    return named[scenario].examples if scenario in named else parse_schedule(scenario)


def photos(side: int = 128) -> Samples:
    """Four photos that ship with scikit-image, as squares.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise MissingExtraError("scikit-image", "corruptions")
    folder = Path(package.origin).parent / "data"
    pictures = [resize(Image.open(folder / name).convert("RGB"), side) for name in PHOTOS]
    inputs = np.stack([np.asarray(picture) for picture in pictures])
    return make_samples(inputs, np.arange(len(pictures)), list(PHOTOS.values()), name="photos")


def _spread(samples: Samples, across: int = ACROSS) -> Samples:
    """Samples for one row, from as many classes as possible."""
    by_class = [np.flatnonzero(samples.labels == c) for c in np.unique(samples.labels)]
    order = [members[turn] for turn in range(ACROSS) for members in by_class if turn < len(members)]
    return samples.subset(order[:across])


def _sheet(rows: Sequence[Row], below: bool) -> Image.Image:
    """Pictures in rows, with captions on the left and, if `below`, class names below each picture."""
    first = rows[0][1]
    if not first.are_pictures:
        raise DataError(f"{first.name}: its inputs are not uint8 pictures, so there is nothing to draw")
    height, width = first.inputs.shape[1:3]
    scale = max(1, 64 // min(height, width))
    across, down = width * scale + _GAP, height * scale + _GAP + (_TEXT if below else 0)
    font = ImageFont.load_default()
    margin = max(round(font.getlength(caption)) for caption, _ in rows) + 2 * _GAP + 4
    longest = max(len(samples) for _, samples in rows)
    sheet = Image.new("RGB", (margin + longest * across, len(rows) * down), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (caption, samples) in enumerate(rows):
        draw.text((_GAP, r * down + height * scale // 2 - _TEXT // 2), caption, fill="black", font=font)
        for c in range(len(samples)):
            left, top = margin + c * across, r * down
            sheet.paste(_enlarged(samples.inputs[c], scale), (left, top))
            if below:
                name = _fitting(samples.class_names[samples.labels[c]], font, across)
                draw.text((left, top + height * scale), name, fill="black", font=font)
    return sheet


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while len(text) > 1 and font.getlength(text) > width - _GAP:
        text = text[:-1]
    return text


def _enlarged(picture: Pictures, scale: int) -> Image.Image:
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
