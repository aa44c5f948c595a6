"""Accuracies of arms, and of classes, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tbft.report.charts.rows import name_rows, percent_axis
from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme, label
from tbft.report.words import listed, percent, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ROW = 34  # px of a row of bars, two bars and a gap
#: The axis goes on for so much beyond its last number, for labels; intervals end at the second.
ROOM, MOST = 1.3, 1.04


Value = tuple[float, float | None]  # a share, and half the width of its interval


@dataclass(frozen=True)
class Bar:
    """One arm's accuracies."""

    method: str
    ours: Value | None
    published: Value | None = None


def bars(title: str, given: Sequence[Bar], best: str | None = None, limit: float = 1.0) -> Picture:
    """Accuracy of each arm, ours filled and the published one outlined above it.

    Args:
        best: of our arms, marked with a triangle.
        limit: end of the axis, so that charts side by side have the same.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for place, bar in enumerate(given):
            apart = 0.19 if bar.ours is not None and bar.published is not None else 0.0
            if bar.published is not None:
                _bar(axes, theme, bar.method, bar.published, place - apart, limit, filled=False)
            if bar.ours is not None:
                mark = "  ◂ best" if bar.method == best else ""
                _bar(axes, theme, bar.method, bar.ours, place + apart, limit, mark=mark)
        name_rows(axes, theme, [label(bar.method) for bar in given])
        percent_axis(axes, limit * ROOM, limit)

    said = listed([_said(bar) for bar in given])
    return picture(draw, title, f"Accuracy: {said}.", 56 + ROW * len(given))


def _said(bar: Bar) -> str:
    ours = "no record" if bar.ours is None else percent(bar.ours[0])
    paper = "" if bar.published is None else f" (published {percent(bar.published[0])})"
    return f"{label(bar.method)} {ours}{paper}"


def _bar(
    axes: Axes,
    theme: Theme,
    method: str,
    value: Value,
    at: float,
    limit: float,
    filled: bool = True,
    mark: str = "",
) -> None:
    share, half_width = value
    color = theme.arm(method)
    axes.barh(at, share, 0.32, facecolor=color if filled else "none", edgecolor=color, linewidth=1.2)
    # With two seeds an interval may be wider than the axis; the table has its numbers.
    ends = [max(share - (half_width or 0), 0), min(share + (half_width or 0), MOST * limit)]
    if half_width:
        spread = [[share - ends[0]], [max(ends[1] - share, 0)]]
        axes.errorbar(share, at, xerr=spread, color=theme.ink, elinewidth=0.9, capsize=1.8, capthick=0.9)
    axes.text(
        ends[1] + 0.012 * limit,
        at,
        f"{100 * share:.1f}{mark}",
        va="center",
        color=theme.ink if filled else theme.muted,
        weight="bold" if mark else "normal",
        size=SMALL,
    )


def before_after(title: str, pairs: Mapping[str, tuple[float, float]]) -> Picture:
    """Accuracy of each class: a ring before, a disk after, and the way between."""

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (before, after) in enumerate(pairs.values()):
            color = theme.arm("front") if after >= before else theme.arm("ours")
            axes.plot(
                [before, after], [place, place], color=color, linewidth=2.2, solid_capstyle="butt", zorder=2
            )
            axes.scatter(
                before, place, s=34, facecolors=theme.paper, edgecolors=theme.muted, linewidths=1.4, zorder=3
            )
            axes.scatter(after, place, s=38, color=color, marker="o" if after >= before else "v", zorder=4)
            right = max(before, after)
            axes.text(right + 0.025, place, points(after - before, 0), va="center", size=SMALL)
        names = [name if len(name) <= 18 else name[:17] + "…" for name in pairs]
        name_rows(axes, theme, names)
        percent_axis(axes, 1.14, 1.0)
        axes.set_xlim(-0.03, 1.14)

    said = listed([f"{name} {percent(b, 0)} to {percent(a, 0)}" for name, (b, a) in pairs.items()])
    return picture(draw, title, f"{said}.", 66 + 23 * len(pairs))
