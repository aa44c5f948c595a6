"""The page of one adaptation, and what other pages share with it: charts, templates, words.

A page is one file: styles and pictures are inside it, it runs no script and requests nothing. It needs
the extra `report` (Jinja2 and matplotlib), loaded when a page is made. Nothing here imports torch: pages
are made from plain values.
"""

from __future__ import annotations

from tbft.report.adaptation import adaptation_page
from tbft.report.inputs import Adaptation, Shown, Strip
from tbft.report.pages import check_extra, write_page

__all__ = ["Adaptation", "Shown", "Strip", "adaptation_page", "check_extra", "write_page"]
