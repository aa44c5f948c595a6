"""Colors and marks of the arms, the same in every chart.

The colors are those of Okabe and Ito (2008), which color-blind readers can distinguish, slightly lighter on
dark pages. Each arm also has a mark of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The colors of a chart; its background is transparent, and `paper` is that of the page."""

    name: str  # light or dark
    paper: str
    ink: str
    muted: str
    rule: str
    fill: str  # lowest value of a heat map
    peak: str  # highest value of a heat map
    colors: Mapping[str, str]

    def arm(self, name: str) -> str:
        """The color of an arm; of a joined arm, the color of its first part."""
        return self.colors.get(name.split("+")[0], self.colors["other"])


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1c2024",
    muted="#5c6670",
    rule="#d9dee3",
    fill="#f3f6f9",
    peak="#0a4a7a",
    colors={
        "none": "#9aa3ab",
        "adabn": "#b0588d",
        "front": "#0072b2",
        "layer2": "#3a9fd8",
        "layer3": "#00886a",
        "rear": "#c78500",
        "block average": "#7c858d",
        "full": "#41484f",
        "ours": "#d04f00",
        "outcome": "#d04f00",
        "other": "#7a6ab0",
    },
)
DARK = Theme(
    name="dark",
    paper="#14171a",
    ink="#e8ebee",
    muted="#a0abb5",
    rule="#363d44",
    fill="#1d2227",
    peak="#8fd0ff",
    colors={
        "none": "#7d8891",
        "adabn": "#e093c0",
        "front": "#4aa8e8",
        "layer2": "#8fd0ff",
        "layer3": "#2fc79d",
        "rear": "#f0b33c",
        "block average": "#939da6",
        "full": "#cfd5da",
        "ours": "#ff8a45",
        "outcome": "#ff8a45",
        "other": "#b3a5ec",
    },
)
THEMES = (LIGHT, DARK)

#: matplotlib's marks.
MARKS: Mapping[str, str] = {
    "none": "x",
    "adabn": "+",
    "front": "o",
    "layer2": "s",
    "layer3": "D",
    "rear": "^",
    "full": "P",
    "ours": "*",
    "outcome": "*",
    "auto-rgn": "v",
    "tent": "<",
    "memo": ">",
}
