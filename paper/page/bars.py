"""Accuracies of methods as bars, ours beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paper.page.names import label
from tbft.report.charts.rows import name_rows, percent_axis
from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ROW = 34  # px: two bars and a gap
#: Where the axis and the intervals end, as multiples of its last number; between them stand labels.
AXIS_END, INTERVAL_END = 1.3, 1.04

Value = tuple[float, float | None]  # a share, and half the width of its interval


@dataclass(frozen=True)
class Bar:
    """The accuracies of one method."""

    method: str
    ours: Value | None
    published: Value | None = None


def bars(title: str, shown: Sequence[Bar], best: str | None = None, limit: float = 1.0) -> Picture:
    """The accuracy of each method: ours filled, with the published one outlined above it.

    Args:
        best: our best method, marked with a triangle.
        limit: where the axis ends; charts side by side share it.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for place, bar in enumerate(shown):
            apart = 0.19 if bar.ours is not None and bar.published is not None else 0.0
            if bar.published is not None:
                _bar(axes, theme, bar.method, bar.published, place - apart, limit, filled=False)
            if bar.ours is not None:
                mark = "  ◂ best" if bar.method == best else ""
                _bar(axes, theme, bar.method, bar.ours, place + apart, limit, mark=mark)
        name_rows(axes, theme, [label(bar.method) for bar in shown])
        percent_axis(axes, limit * AXIS_END, limit)

    words = listed([_in_words(bar) for bar in shown])
    return picture(draw, title, f"Accuracy: {words}.", 56 + ROW * len(shown))


def _in_words(bar: Bar) -> str:
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
    # With two seeds an interval may be wider than the axis; the table has the numbers.
    ends = [max(share - (half_width or 0), 0), min(share + (half_width or 0), INTERVAL_END * limit)]
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
