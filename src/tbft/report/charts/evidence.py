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
    numbers: Mapping[str, float],
    threshold: float | None = None,
    word: str = "",
    log: bool = False,
    alarm: bool = True,
) -> Picture:
    """Named numbers as bars, or as dots on a logarithmic axis, with a threshold if there is one.

    Args:
        word: label of the threshold.
        alarm: highlight numbers beyond the threshold.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        lengths = list(numbers.values())
        end = max([*map(abs, lengths), threshold or 0.0]) or 1.0
        low = min([v for v in lengths if v > 0] + [threshold or end]) / 2
        for row, value in enumerate(lengths):
            beyond = alarm and threshold is not None and value >= threshold
            color, x = theme.arm("ours" if beyond else "front"), max(value, low) if log else value
            if log:
                axes.plot([low / 2, x], [row, row], color=color, linewidth=1.4)
                axes.scatter(x, row, s=42, color=color, marker="D" if beyond else "o", zorder=3)
            else:
                axes.barh(row, x, height=0.5, color=color)
            axes.annotate(
                _number(value),
                (max(x, 0.0), row),
                xytext=(7 if log else 4, 0),
                textcoords="offset points",
                va="center",
                size=SMALL,
            )
        if threshold is not None:
            _mark_threshold(axes, theme, threshold, word, on_left=not log and threshold > 0.6 * end)
        if log:
            axes.set_xscale("log")
            axes.set_xlim(low / 2, end * 4)
            axes.minorticks_off()
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        else:
            axes.set_xlim(1.25 * min(0.0, *lengths), end * 1.2)
            axes.axvline(0, color=theme.muted, linewidth=0.8)
        name_rows(axes, theme, list(numbers))

    alt = listed([f"{' '.join(name.split())} {_number(value)}" for name, value in numbers.items()])
    limit = "" if threshold is None else f" {word} {threshold:.3g}."
    return picture(draw, title, f"{alt}.{limit}", 78 + 27 * len(numbers))


def _mark_threshold(axes: Axes, theme: Theme, threshold: float, word: str, on_left: bool) -> None:
    """A vertical line with its label above, to the right or left of it."""
    axes.axvline(threshold, color=theme.ink, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(
        f"{word} {threshold:.3g}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if on_left else 3, 3),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="bottom",
        color=theme.muted,
        size=SMALL,
    )


def _number(value: float) -> str:
    """Three significant figures; one below 0.01, and zero for values too small to see."""
    text = f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}" if abs(value) >= 0.0005 else "0"
    return text.replace("-", "\u2212")


def interval(title: str, gain: float, low: float, high: float) -> Picture:
    """A gain with its interval, on an axis with zero; all as fractions."""

    def draw(axes: Axes, theme: Theme) -> None:
        color = theme.arm("layer3") if low > 0 else theme.arm("ours") if high < 0 else theme.muted
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.plot([100 * low, 100 * high], [0, 0], color=color, linewidth=5, solid_capstyle="butt")
        axes.scatter(100 * gain, 0, s=60, color=theme.paper, edgecolors=color, linewidths=2, zorder=3)
        for value, alignment in ((low, "right"), (high, "left")):
            axes.annotate(
                points(value),
                (100 * value, 0),
                xytext=(-6 if alignment == "right" else 6, 0),
                textcoords="offset points",
                ha=alignment,
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
