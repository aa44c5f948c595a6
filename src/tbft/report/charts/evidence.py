"""Evidence, and the verdict on held-out labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tbft.report.charts.rows import name_rows
from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import listed, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def values(
    title: str,
    given: Mapping[str, float],
    threshold: float | None = None,
    word: str = "",
    log: bool = False,
    alarm: bool = True,
) -> Picture:
    """Named numbers as bars, or as dots on a logarithmic axis, beside a threshold if there is one.

    Args:
        word: what the threshold is.
        alarm: color what lies beyond the threshold.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        lengths = list(given.values())
        end = max([*map(abs, lengths), threshold or 0.0]) or 1.0
        least = min([v for v in lengths if v > 0] + [threshold or end]) / 2
        for place, value in enumerate(lengths):
            far = alarm and threshold is not None and value >= threshold
            color, at = theme.arm("ours" if far else "front"), max(value, least) if log else value
            if log:
                axes.plot([least / 2, at], [place, place], color=color, linewidth=1.4)
                axes.scatter(at, place, s=42, color=color, marker="D" if far else "o", zorder=3)
            else:
                axes.barh(place, at, height=0.5, color=color)
            axes.annotate(
                _number(value),
                (max(at, 0.0), place),
                xytext=(7 if log else 4, 0),
                textcoords="offset points",
                va="center",
                size=SMALL,
            )
        if threshold is not None:
            axes.axvline(threshold, color=theme.ink, linewidth=1, linestyle=(0, (3, 2)))
            late = not log and threshold > 0.6 * end
            axes.annotate(
                f"{word} {threshold:.3g}",
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3 if not late else -3, 3),
                textcoords="offset points",
                ha="right" if late else "left",
                va="bottom",
                color=theme.muted,
                size=SMALL,
            )
        if log:
            axes.set_xscale("log")
            axes.set_xlim(least / 2, end * 4)
            axes.minorticks_off()
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        else:
            axes.set_xlim(1.25 * min(0.0, *lengths), end * 1.2)
            axes.axvline(0, color=theme.muted, linewidth=0.8)
        name_rows(axes, theme, list(given))

    said = listed([f"{' '.join(name.split())} {_number(value)}" for name, value in given.items()])
    limit = "" if threshold is None else f" {word} {threshold:.3g}."
    return picture(draw, title, f"{said}.{limit}", 78 + 27 * len(given))


def _number(value: float) -> str:
    """Three figures; below 0.01 one, and zero for what is too small to be seen."""
    text = f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}" if abs(value) >= 0.0005 else "0"
    return text.replace("-", "\u2212")


def interval(title: str, gain: float, low: float, high: float) -> Picture:
    """A gain with its interval, beside nothing gained; shares."""

    def draw(axes: Axes, theme: Theme) -> None:
        color = theme.arm("layer3") if low > 0 else theme.arm("ours") if high < 0 else theme.muted
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.plot([100 * low, 100 * high], [0, 0], color=color, linewidth=5, solid_capstyle="butt")
        axes.scatter(100 * gain, 0, s=60, color=theme.paper, edgecolors=color, linewidths=2, zorder=3)
        for value, side in ((low, "right"), (high, "left")):
            axes.annotate(
                points(value),
                (100 * value, 0),
                xytext=(-6 if side == "right" else 6, 0),
                textcoords="offset points",
                ha=side,
                va="center",
            )
        axes.annotate(
            points(gain),
            (100 * gain, 0),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            weight="bold",
        )
        reach = 1.45 * max(100 * abs(low), 100 * abs(high), 5)
        axes.set_xlim(-reach if low < 0 else -0.12 * reach, reach if high > 0 else 0.12 * reach)
        axes.set_ylim(-0.8, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("percentage points")

    words = f"{points(gain)} points, from {points(low)} to {points(high)}."
    return picture(draw, title, words, 105)
