"""Sample pictures for the page: what the paper's drifts look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paper.experiments import EXPERIMENTS
from tbft.errors import MissingExtraError
from tbft.report import Shown, Strip

if TYPE_CHECKING:
    from tbft.data import Samples

SIDE = 64  # px


def drift_strips() -> list[Strip]:
    """The paper's drifts on four photos that may be redistributed; none without the extra that has them."""
    from tbft.scenarios import apply_drift
    from tbft.scenarios.sheets import photos

    try:
        clean = photos(SIDE)
        strips = [_strip("clean", clean)]
        for name in ("cifar-flip", "cifar10-c"):
            drifts = [drift for drift in EXPERIMENTS[name].drifts if drift is not None]
            strips += [_strip(d, apply_drift(clean, d), labeled=name == "cifar-flip") for d in drifts]
    except MissingExtraError:
        return []
    return strips


def _strip(caption: str, samples: Samples, labeled: bool = True) -> Strip:
    from tbft.scenarios.sheets import png

    names = [samples.class_names[label] for label in samples.labels]
    pairs = zip(samples.inputs, names, strict=True)
    return Strip(caption, [Shown(png(picture), name if labeled else "", name) for picture, name in pairs])
