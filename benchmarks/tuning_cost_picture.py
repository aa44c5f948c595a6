"""Draw accuracy against processor seconds: tbft, and what else a user could run.

    python benchmarks/tuning_cost_picture.py [PNG]

From the record of ``tuning_cost.py --rivals``, with 10 % of the set to train on; medians over seeds. Writes
``docs/img/accuracy_against_seconds.svg``, whose description has the numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Drawing

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from readme_picture import Points, add_base, add_legend, frame, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "tuning_cost_rivals.json"
PICTURE = ROOT / "docs" / "img" / "accuracy_against_seconds.svg"
SIZE = "0.1"

PANELS = {
    "gaussian_noise:5": "noise",
    "contrast:5": "low contrast",
    "tiny17": "other kinds of the same classes",
    "labels:reverse": "labels mean something else",
}
#: Method -> name, color and mark.
METHODS = {
    "paper full": ("fine-tuning everything, as in the paper", "#41484f", "s"),
    "plain full": ("the same, plain: AdamW, ten epochs", "#7d8790", "s"),
    "lora": ("LoRA (peft)", "#0072b2", "^"),
    "new head": ("a new head", "#009e73", "v"),
    "tent": ("TENT (no labels)", "#c78500", "D"),
    "adabn": ("BatchNorm statistics only", "#b0588d", "P"),
    "ours in float32": ("tbft, float32", "#f0a070", "o"),
    "ours": ("tbft, bfloat16", "#d04f00", "o"),
}


def points(runs: list[dict[str, Any]]) -> Points:
    """Case -> method -> (processor seconds, accuracy in percent)."""
    found: Points = {}
    for case in PANELS:
        for method in ("base", *METHODS):
            own = [r for r in runs if (r["case"], r["train"], r["side"]) == (case, SIZE, method)]
            if own and any(r["case"] == case and r["side"] == "plain full" for r in runs):
                seconds, accuracy = (median(r[key] for r in own) for key in ("cpu_seconds", "accuracy"))
                found.setdefault(case, {})[method] = (round(seconds, 2), round(100 * accuracy, 2))
    return found


def drawn(found: Points) -> Drawing:
    """The picture."""
    drawing = Drawing(figsize=(max(5.2, 2.4 * len(found)), 4.2), layout="constrained", facecolor="white")
    panels = drawing.subplots(1, len(found), squeeze=False)[0]
    for axes, (case, methods) in zip(panels, found.items(), strict=True):
        _panel(axes, PANELS[case], methods)
    panels[0].set_ylabel("accuracy %")
    shown = [METHODS[m] for m in METHODS if any(m in methods for methods in found.values())]
    add_legend(drawing, shown, ncols=2, fontsize=8.5)
    return drawing


def _panel(axes: Axes, title: str, methods: dict[str, tuple[float, float]]) -> None:
    if "base" in methods:
        add_base(axes, methods["base"][1])
    for method, (name, color, mark) in METHODS.items():
        if method in methods:
            size = 80 if name.startswith("tbft") else 45
            seconds, accuracy = methods[method]
            axes.scatter([seconds], [accuracy], s=size, color=color, marker=mark, zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 500)
    axes.set_xticks([1, 10, 100], ["1 s", "10 s", "100 s"])
    frame(axes, title, 10, "processor time")


if __name__ == "__main__":
    write(PICTURE, points(json.loads(RECORD.read_text())["runs"]), drawn)
