"""Heat maps: methods by corruption, tuned block by noised block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from paper.page.names import label
from tbft.report.drawing import FONT_SIZE, SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Key = tuple[str, str]


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[Key, float],
    winners: Collection[Key] = (),
    row_name: str = "",
    column_name: str = "",
) -> Picture:
    """Accuracies as a grid of colors and numbers.

    Args:
        values: (row, column) -> accuracy, 0 to 1; missing ones stay blank.
        winners: cells that get a frame and bold type.
    """
    low, high = min(values.values()), max(values.values())

    def draw(axes: Axes, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        colors = LinearSegmentedColormap.from_list("tbft", [theme.fill, theme.peak])
        for key, value in values.items():
            x, y = columns.index(key[1]), rows.index(key[0])
            color = colors((value - low) / ((high - low) or 1))
            axes.add_patch(Rectangle((x, y), 1, 1, fc=color, ec=theme.paper, lw=1.5))
            if key in winners:
                frame = Rectangle(
                    (x + 0.06, y + 0.08), 0.88, 0.84, fill=False, ec=theme.arm("ours"), lw=1.6, zorder=3
                )
                axes.add_patch(frame)
            axes.text(
                x + 0.5,
                y + 0.5,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                color=_readable(theme, color),
                weight="bold" if key in winners else "normal",
                size=SMALL if len(columns) > 8 else FONT_SIZE,
            )
        _label_sides(axes, theme, rows, columns)
        axes.set_xlabel(column_name)
        axes.set_ylabel(row_name)

    said = "; ".join(f"{label(r)}, {label(c)} {percent(values[r, c])}" for r, c in sorted(winners))
    most = f"from {percent(low)} to {percent(high)}"
    return picture(draw, title, f"Accuracies {most}. Best: {said or 'none'}.", 118 + 23 * len(rows))


def _readable(theme: Theme, color: Sequence[float]) -> str:
    """The text color that stands out more from a background, by the contrast of WCAG 2."""
    from matplotlib.colors import to_rgb

    def contrast(text: str) -> float:
        light, dark = sorted((_luminance(to_rgb(text)), _luminance(color)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    return max((theme.ink, theme.paper), key=contrast)


def _luminance(color: Sequence[float]) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _label_sides(axes: Axes, theme: Theme, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(
        [i + 0.5 for i in range(len(columns))],
        [label(column) for column in columns],
        rotation=40,
        ha="left",
        color=theme.ink,
        rotation_mode="anchor",
    )
    axes.set_yticks([i + 0.5 for i in range(len(rows))], [label(row) for row in rows], color=theme.ink)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
