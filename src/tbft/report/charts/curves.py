"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Maximum number of epochs for which points are marked.
MAX_MARKS = 15


def learning(
    title: str, curves: Mapping[str, Sequence[float | None]], best_epoch: int | None, ylabel: str
) -> Picture:
    """A line for each curve over epochs; the epoch that was kept is marked.

    Args:
        curves: name -> values after epochs 1, 2, ...; None for a missing value.
    """
    styles = (("front", "-", "o"), ("ours", "--", "s"), ("layer3", ":", "D"))
    known = {name: _finite(values) for name, values in curves.items()}
    epochs = max(len(values) for values in curves.values())

    def draw(axes: Axes, theme: Theme) -> None:
        for (name, points), (arm, line, mark) in zip(known.items(), styles, strict=False):
            if not points:
                continue
            shape = mark if epochs <= MAX_MARKS else None
            axes.plot(*zip(*points, strict=True), line, marker=shape, ms=4, color=theme.arm(arm), label=name)
            last = f"{points[-1][1]:.3g}"
            axes.annotate(last, points[-1], (5, 0), textcoords="offset points", va="center", size=SMALL)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                "kept", (best_epoch, 0), (-4, 4), textcoords="offset points", ha="right", color=theme.muted
            )
        axes.set_xlim(0.8, epochs + 0.35 + 0.05 * epochs)
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(1, epochs + 1, max(1, -(-epochs // 8))))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if len(curves) > 1:
            axes.legend()

    ends = [
        f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in known.items() if points
    ]
    kept = "" if best_epoch is None else f" Epoch {best_epoch} was kept."
    return picture(draw, title, f"{listed(ends)}.{kept}", 230)


def _finite(values: Sequence[float | None]) -> list[tuple[int, float]]:
    """(epoch, value) pairs of the values that are not missing."""
    return [(i, v) for i, v in enumerate(values, start=1) if v is not None and isfinite(v)]
