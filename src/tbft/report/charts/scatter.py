"""Accuracy against processor time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tbft.report.drawing import FONT_SIZE, SMALL, Picture, picture
from tbft.report.theme import MARKS, Theme
from tbft.report.words import listed, percent, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Arms that are cheaper than the most expensive one by this factor are drawn at the left edge.
MAX_COST_RATIO = 2000

Place = tuple[float, float]  # processor seconds, accuracy


@dataclass(frozen=True)
class Point:
    """Accuracy and processor time of an arm."""

    method: str
    cpu_seconds: float
    accuracy: float
    filled: bool = True  # filled for the recipe fast, hollow for the paper's


def costs(
    title: str,
    points: Sequence[Point],
    chosen: str | None = None,
    label: Callable[[str], str] = str,
    height: int = 300,
) -> Picture:
    """Accuracy against processor time, on a logarithmic axis; up and to the left is better.

    Args:
        chosen: the method to circle.
        label: method -> its name for readers.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        cheap = max(p.cpu_seconds for p in points) / MAX_COST_RATIO
        floor = min((p.cpu_seconds for p in points if p.cpu_seconds > cheap), default=1.0) / 3
        places = [(max(p.cpu_seconds, floor), p.accuracy) for p in points]
        for method in dict.fromkeys(p.method for p in points):
            same = [place for point, place in zip(points, places, strict=True) if point.method == method]
            axes.plot(*zip(*same, strict=True), color=theme.arm(method), linewidth=1, alpha=0.6, zorder=2)
        for point, place in zip(points, places, strict=True):
            _mark(axes, theme, point, place, point.method == chosen)
        _scale(axes, places, floor)
        filled = {p.method for p in points if p.filled}
        names = [label(p.method) if p.filled or p.method not in filled else "" for p in points]
        _name_points(axes, theme, names, places)

    alt = listed([f"{label(p.method)} {percent(p.accuracy)} for {seconds(p.cpu_seconds)}" for p in points])
    return picture(draw, title, f"Accuracy against processor time: {alt}.", height)


def _mark(axes: Axes, theme: Theme, point: Point, place: Place, circled: bool) -> None:
    color, mark = theme.arm(point.method), MARKS.get(point.method, "o")
    size = 90 if mark == "*" else 40
    if mark in "x+":  # these have no face
        axes.scatter(*place, s=size, marker=mark, color=color, linewidths=1.4, zorder=3)
    else:
        face = color if point.filled else theme.paper
        axes.scatter(*place, s=size, marker=mark, fc=face, ec=color, linewidths=1.4, zorder=3)
    if circled:
        axes.scatter(*place, s=190, facecolors="none", edgecolors=theme.ink, linewidths=1, zorder=4)


def _scale(axes: Axes, places: Sequence[Place], floor: float) -> None:
    from matplotlib.ticker import LogLocator

    longest = max(x for x, _ in places)
    axes.set_xscale("log")
    axes.set_xlim(floor / 1.6, longest * 4.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if longest < 30 * floor else (1,)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
    axes.minorticks_off()
    low, high = min(y for _, y in places), max(y for _, y in places)
    room = max(0.03, 0.12 * (high - low))
    axes.set_ylim(max(0.0, low - room), min(1.02, high + room))
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f}")
    axes.set_xlabel("processor seconds, logarithmic")
    axes.set_ylabel("accuracy, %")


def _name_points(axes: Axes, theme: Theme, names: Sequence[str], places: Sequence[Place]) -> None:
    """Put names next to their points, where they overlap least with other names and points."""
    from matplotlib.figure import Figure

    assert isinstance(axes.figure, Figure)
    axes.figure.draw_without_rendering()  # settles the layout, so that positions in pixels are known
    shown = [tuple(axes.transData.transform(place)) for place in places]
    frame = axes.get_window_extent()
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in shown]
    scale = axes.figure.dpi / 72
    for name, (x, y), place in zip(names, shown, places, strict=True):
        if not name:
            continue
        wide, high = 0.56 * FONT_SIZE * scale * len(name), 1.1 * FONT_SIZE * scale
        choices = [
            (x + dx if side == "left" else x - dx - wide, y + dy - high / 2, side, dx, dy)
            for dy in (0, 9, -9, 17, -17, 25, -25)
            for side, dx in (("left", 8), ("right", 8))
        ]

        def badness(
            choice: tuple[float, float, str, float, float], wide: float = wide, high: float = high
        ) -> float:
            left, low = choice[0], choice[1]
            box = (left, low, left + wide, low + high)
            outside = max(0, frame.x0 - left) + max(0, left + wide - frame.x1 - 6)
            return sum(_overlap(box, other) for other in taken) + 40 * outside + 2 * abs(choice[4])

        left, low, side, dx, dy = min(choices, key=badness)
        taken.append((left, low, left + wide, low + high))
        axes.annotate(
            name,
            place,
            xytext=((dx if side == "left" else -dx) / scale, dy / scale),
            textcoords="offset points",
            ha=side,
            va="center",
            color=theme.ink,
            size=SMALL,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
