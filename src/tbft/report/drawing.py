"""From a drawing function to a picture in a page: drawn twice, for light and dark, as small SVG.

Text stays text, in the reader's own font. The same values give the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tbft.errors import MissingExtraError
from tbft.report.theme import THEMES, Theme
from tbft.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: CSS pixels in an inch; figures are laid out in pixels of the page.
PIXELS = 96
FONT_SIZE = 8.8  # points; 11.7 px
SMALL = 8.4  # of numbers beside marks

#: Attributes that hold coordinates; a hundredth of a point is near enough.
_PLACES = re.compile(r' (?:d|x|y|transform)="[^"]*"')

Draw = Callable[["Axes", Theme], None]


@dataclass(frozen=True)
class Picture:
    """A chart as two data URIs, its title, words for those who do not see it, and its size in pixels."""

    title: str
    light: str
    dark: str
    alt: str
    width: int
    height: int


def picture(draw: Draw, title: str, alt: str, height: int, width: int = 360) -> Picture:
    """Draw a chart in both themes.

    Args:
        draw: puts the chart on axes; the page's width on a phone is 360 px.
        title: which the page shows above it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    light, dark = (svg_uri(draw_svg(draw, theme, width, height)) for theme in THEMES)
    return Picture(title, light, dark, alt, width, height)


def draw_svg(draw: Draw, theme: Theme, width: int, height: int) -> str:
    """One chart in one theme, as SVG."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    with mpl.rc_context(_settings(theme)), warnings.catch_warnings():
        # Names in any script: the reader's font has the glyphs, only their width here is a guess.
        warnings.filterwarnings("ignore", r"Glyph .* missing")
        figure = Figure(figsize=(width / PIXELS, height / PIXELS), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots(), theme)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return smaller(visible(written.getvalue()))  # XML has no place for control characters


def svg_uri(svg: str) -> str:
    """SVG as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def smaller(svg: str) -> str:
    """SVG without comments, metadata and line breaks, its text in the reader's font.

    >>> smaller('<svg><!-- a -->\\n <g id="axes_1"/>\\n</svg>')
    '<svg><g id="axes_1"/></svg>'
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<!DOCTYPE.*?>|<\?xml.*?\?>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif", svg)
    svg = _PLACES.sub(lambda place: re.sub(r"(\d\.\d\d)\d+", r"\1", place[0]), svg)
    return re.sub(r">\s+<", "><", svg).replace("\n", " ").strip()


def _settings(theme: Theme) -> dict[Any, Any]:
    return {
        "svg.hashsalt": "tbft",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": FONT_SIZE,
        "text.parse_math": False,  # a dollar sign in a class's name is one
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
