"""The report on an adaptation as an HTML page, and its charts, templates and words, which other pages share.

A page is one file: it contains its styles and pictures, runs no script and requests nothing. Making one
    needs the
extra `report` (Jinja2 and matplotlib). Nothing here imports torch: pages are made from plain values.
"""

from __future__ import annotations

from tbft.report.adaptation import adaptation_page
from tbft.report.inputs import Adaptation, Shown, Strip
from tbft.report.pages import check_extra, write_page

__all__ = ["Adaptation", "Shown", "Strip", "adaptation_page", "check_extra", "write_page"]
