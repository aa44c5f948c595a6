"""Axes of charts with a row for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tbft.report.theme import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def percent_axis(axes: Axes, end: float, last: float) -> None:
    """An axis of shares from 0, labeled in percent.

    Args:
        end: end of the axis.
        last: position beyond which there are no labels.
    """
    step = next(s for s in (0.05, 0.1, 0.2, 0.25) if last / s <= 5 or s == 0.25)
    ticks = [i * step for i in range(int(last / step + 1e-9) + 1)]
    axes.set_xlim(0, end)
    axes.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    axes.set_xlabel("accuracy, %")


def name_rows(axes: Axes, theme: Theme, names: Sequence[str]) -> None:
    """Rows from top to bottom, named on the left, without lines between them."""
    axes.set_yticks(range(len(names)), names, color=theme.ink)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
