"""Draw charts for a page as compact SVG, once for the light and once for the dark theme.

Text remains text, in the reader's own font. The same values give the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tbft.errors import needs
from tbft.report.theme import THEMES, Theme
from tbft.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: CSS pixels per inch; figures are laid out in pixels of the page.
PIXELS = 96
FONT_SIZE = 8.8  # points; 11.7 px
SMALL = 8.4  # font size of numbers beside marks

#: Attributes with coordinates, which are rounded to a hundredth of a point.
_COORDINATES = re.compile(r' (?:d|x|y|transform)="[^"]*"')

Draw = Callable[["Axes", Theme], None]


@dataclass(frozen=True)
class Picture:
    """A chart as two data URIs, with its title, alternative text, and size in pixels."""

    title: str
    light: str
    dark: str
    alt: str
    width: int
    height: int


def picture(draw: Draw, title: str, alt: str, height: int, width: int = 360) -> Picture:
    """Draw a chart in both themes.

    Args:
        draw: draws the chart on axes.
        title: shown above the chart.
        alt: alternative text.
        width: in pixels; the width of the page on a phone by default.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    light, dark = (svg_uri(draw_svg(draw, theme, width, height)) for theme in THEMES)
    return Picture(title, light, dark, alt, width, height)


def draw_svg(draw: Draw, theme: Theme, width: int, height: int) -> str:
    """One chart in one theme, as SVG."""
    with needs("matplotlib", "report"):
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    with mpl.rc_context(_settings(theme)), warnings.catch_warnings():
        # For names in other scripts: the reader's font has the glyphs, only their width is unknown here.
        warnings.filterwarnings("ignore", r"Glyph .* missing")
        figure = Figure(figsize=(width / PIXELS, height / PIXELS), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots(), theme)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return compact(visible(written.getvalue()))  # XML does not allow control characters


def svg_uri(svg: str) -> str:
    """SVG as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def compact(svg: str) -> str:
    """SVG without comments, metadata and line breaks, with text in the reader's font.

    >>> compact('<svg><!-- a -->\\n <g id="axes_1"/>\\n</svg>')
    '<svg><g id="axes_1"/></svg>'
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<!DOCTYPE.*?>|<\?xml.*?\?>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif", svg)
    svg = _COORDINATES.sub(lambda match: re.sub(r"(\d\.\d\d)\d+", r"\1", match[0]), svg)
    return re.sub(r">\s+<", "><", svg).replace("\n", " ").strip()


def _settings(theme: Theme) -> dict[Any, Any]:
    return {
        "svg.hashsalt": "tbft",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": FONT_SIZE,
        "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
        "text.color": theme.ink,
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": FONT_SIZE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.labelsize": FONT_SIZE,
        "ytick.labelsize": FONT_SIZE,
        "legend.frameon": False,
        "legend.fontsize": FONT_SIZE,
        "lines.linewidth": 1.6,
        "hatch.linewidth": 0.6,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
    }
