"""The demo: a network for handwritten digits meets drift, is adapted, and is itself again.

All figures are measured in the run that shows them.
"""

from __future__ import annotations

from tbft.demo.digits import load_digits, new_sensor, scenarios
from tbft.demo.story import Story, tell
from tbft.demo.table import OURS, Outcome, Row, arms, conclusion, run

__all__ = [
    "OURS",
    "Outcome",
    "Row",
    "Story",
    "arms",
    "conclusion",
    "load_digits",
    "new_sensor",
    "run",
    "scenarios",
    "tell",
]
