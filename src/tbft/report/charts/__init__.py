"""Charts, as functions from plain numbers to a :class:`tbft.report.drawing.Picture`; shares are 0 to 1."""

from tbft.report.charts.bars import before_after
from tbft.report.charts.curves import learning
from tbft.report.charts.evidence import interval, values
from tbft.report.charts.scatter import Point, costs

__all__ = ["Point", "before_after", "costs", "interval", "learning", "values"]
