"""Draw the README's picture, accuracy against cost, from the records in `results/`: `make readme`.

Its numbers are also the description of the SVG, so that a test can compare them with the records.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from paper.records import read_records
from paper.tables import Table, tables_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "img" / "accuracy_against_cost.svg"

#: Experiment -> what drifted, and the block that the paper tunes there.
PANELS = {
    "cifar10-c": ("noise, blur, weather", "front"),
    "tiny17": ("other kinds of the same classes", "layer3"),
    "cifar-flip": ("labels mean something else", "rear"),
}
#: Method -> name, color and mark; the paper's block has the key `block`.
METHODS = {
    "full": ("fine-tuning everything", "#41484f", "s"),
    "block": ("the paper's block, chosen by hand", "#0072b2", "^"),
    "tent": ("TENT (no labels)", "#c78500", "D"),
    "adabn": ("BatchNorm statistics only", "#b0588d", "v"),
    "ours": ("tbft", "#d04f00", "o"),
}
COLUMN, RECIPE = "10 %", "paper"

Points = dict[str, dict[str, tuple[float, float]]]


def points(folder: Path = ROOT / "results") -> Points:
    """Experiment -> method -> (processor time as a percentage of full fine-tuning's, accuracy in percent)."""
    tables = {t.experiment: t for t in tables_of(read_records(folder)) if t.recipe == RECIPE and not t.quick}
    return {name: _points(tables[name], block) for name, (_, block) in PANELS.items()}


def _points(table: Table, block: str) -> dict[str, tuple[float, float]]:
    found = {}
    for method in ("none", *METHODS):
        figure = table.figure(block if method == "block" else method, COLUMN)
        if figure is not None and figure.cpu_ratio is not None:
            found[method] = (round(100 * figure.cpu_ratio, 4), round(100 * figure.accuracy, 4))
    return found


def drawn(found: Points) -> Drawing:
    """The picture."""
    drawing = Drawing(figsize=(8.2, 3.5), layout="constrained", facecolor="white")
    panels = drawing.subplots(1, len(found))
    for axes, (name, methods) in zip(panels, found.items(), strict=True):
        _panel(axes, name, methods)
    panels[0].set_ylabel("accuracy %")
    add_legend(drawing, METHODS.values(), ncols=3, fontsize=9)
    return drawing


def add_legend(
    drawing: Drawing, methods: Iterable[tuple[str, str, str]], ncols: int, fontsize: float
) -> None:
    """A legend below the panels, of methods by name, color and mark."""
    handles = [
        mpl.lines.Line2D([], [], color=color, marker=mark, linestyle="", label=name)
        for name, color, mark in methods
    ]
    handles.append(mpl.lines.Line2D([], [], color="#9aa3ab", linestyle="--", label="before adaptation"))
    drawing.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=fontsize)


def add_base(axes: Axes, accuracy: float) -> None:
    """A line at the accuracy of the base model."""
    axes.axhline(accuracy, color="#9aa3ab", linestyle="--", linewidth=1.2)


def frame(axes: Axes, title: str, fontsize: float, cost: str) -> None:
    """Title, grid and frame of a panel of accuracy against a cost on a logarithmic scale."""
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_title(title, fontsize=fontsize)
    axes.set_xlabel(cost, fontsize=9)
    axes.grid(color="#e6e9ec")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _panel(axes: Axes, name: str, methods: dict[str, tuple[float, float]]) -> None:
    before = methods["none"][1]
    add_base(axes, before)
    for method, (share, accuracy) in methods.items():
        if method == "none":
            continue
        _, color, mark = METHODS[method]
        size = 110 if method == "ours" else 55
        axes.scatter([share], [accuracy], s=size, color=color, marker=mark, zorder=3)
    share, accuracy = methods["ours"]
    axes.annotate(
        f"{accuracy:.1f} % for\n{share:.0f} % of the time",
        (share, accuracy),
        (8, 7),
        textcoords="offset points",
        color=METHODS["ours"][1],
        fontsize=9,
        ha="left" if share < 8 else "center",
    )
    lowest = min(a for _, a in methods.values())
    highest = max(a for _, a in methods.values())
    margin = 0.14 * (highest - lowest)
    axes.set_ylim(lowest - margin, highest + 2.6 * margin)
    axes.set_xscale("log")
    axes.set_xlim(1, 180)
    axes.set_xticks([1, 3, 10, 30, 100], ["1 %", "3 %", "10 %", "30 %", "100 %"])
    frame(axes, PANELS[name][0], 11, "processor time, of full fine-tuning")


def svg(found: Points, draw: Callable[[Points], Drawing] = drawn) -> str:
    """A picture as SVG, with its numbers as description."""
    written = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Description": json.dumps(found)}
    with mpl.rc_context({"svg.hashsalt": "tbft", "font.family": "DejaVu Sans"}):
        draw(found).savefig(written, format="svg", metadata=metadata)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def write(path: Path, found: Points, draw: Callable[[Points], Drawing] = drawn) -> None:
    """Write a picture as SVG, and as PNG, to look at, where the command names a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg(found, draw), encoding="utf-8")
    if sys.argv[1:]:
        picture = draw(found)
        FigureCanvasAgg(picture)
        picture.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    write(PICTURE, points())
