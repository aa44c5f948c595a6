"""Accuracies of classes, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tbft.report.charts.rows import name_rows, percent_axis
from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import listed, percent, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def before_after(title: str, pairs: Mapping[str, tuple[float, float]]) -> Picture:
    """Accuracy of each class: a ring before, a disk after, connected by a line."""

    def draw(axes: Axes, theme: Theme) -> None:
        for row, (before, after) in enumerate(pairs.values()):
            color = theme.arm("front") if after >= before else theme.arm("ours")
            axes.plot(
                [before, after], [row, row], color=color, linewidth=2.2, solid_capstyle="butt", zorder=2
            )
            axes.scatter(
                before, row, s=34, facecolors=theme.paper, edgecolors=theme.muted, linewidths=1.4, zorder=3
            )
            axes.scatter(after, row, s=38, color=color, marker="o" if after >= before else "v", zorder=4)
            right = max(before, after)
            axes.text(right + 0.025, row, points(after - before, 0), va="center", size=SMALL)
        names = [name if len(name) <= 18 else name[:17] + "…" for name in pairs]
        name_rows(axes, theme, names)
        percent_axis(axes, 1.14, 1.0)
        axes.set_xlim(-0.03, 1.14)

    alt = listed([f"{name} {percent(b, 0)} to {percent(a, 0)}" for name, (b, a) in pairs.items()])
    return picture(draw, title, f"{alt}.", 66 + 23 * len(pairs))
