"""Sample pictures for the page: what the paper's drifts look like."""

from __future__ import annotations

from paper.experiments import EXPERIMENTS
from tbft.errors import MissingExtraError
from tbft.report.inputs import Strip

SIDE = 64  # px


def drift_strips() -> list[Strip]:
    """The paper's drifts on four photos that may be redistributed; none without the extra that has them."""
    from tbft import apply_drift
    from tbft.report.strips import strip
    from tbft.scenarios.sheets import photos

    try:
        clean = photos(SIDE)
        strips = [strip("clean", clean)]
        for name in ("cifar-flip", "cifar10-c"):
            drifts = [drift for drift in EXPERIMENTS[name].drifts if drift is not None]
            strips += [strip(d, apply_drift(clean, d), labeled=name == "cifar-flip") for d in drifts]
    except MissingExtraError:
        return []
    return strips
