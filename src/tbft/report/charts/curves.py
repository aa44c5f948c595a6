"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tbft.report.drawing import SMALL, Picture, picture
from tbft.report.theme import Theme
from tbft.report.words import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning(
    title: str, curves: Mapping[str, Sequence[float | None]], best_epoch: int | None, ylabel: str
) -> Picture:
    """Values after every epoch, a line each; the epoch that was kept is marked.

    Args:
        curves: name -> a value for epochs 1, 2, ...; None where there is none.
    """
    styles = (("front", "-", "o"), ("ours", "--", "s"), ("layer3", ":", "D"))

    def draw(axes: Axes, theme: Theme) -> None:
        for (name, values), (arm, line, mark) in zip(curves.items(), styles, strict=False):
            known = [(i + 1, v) for i, v in enumerate(values) if v is not None]
            axes.plot(
                *zip(*known, strict=True), line, marker=mark, markersize=4, color=theme.arm(arm), label=name
            )
            axes.annotate(
                f"{known[-1][1]:.2f}",
                known[-1],
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                size=SMALL,
            )
        epochs = max(len(values) for values in curves.values())
        if best_epoch is not None:
            axes.axvline(best_epoch, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                "kept",
                (best_epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-4, -2),
                textcoords="offset points",
                ha="right",
                va="top",
                color=theme.muted,
            )
        axes.set_xlim(0.8, epochs + 0.35 + 0.05 * epochs)
        axes.set_ylim(bottom=0)
        step = max(1, -(-epochs // 8))
        axes.set_xticks(range(1, epochs + 1, step))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if len(curves) > 1:
            axes.legend()

    ends = listed([f"{name} from {_first(v):.3g} to {_first(v[::-1]):.3g}" for name, v in curves.items()])
    kept = "" if best_epoch is None else f" Epoch {best_epoch} was kept."
    return picture(draw, title, f"{ends}.{kept}", 230)


def _first(values: Sequence[float | None]) -> float:
    return next(v for v in values if v is not None)
