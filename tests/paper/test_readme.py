"""The figures and the picture of the README come from the records."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    """The module `tools/readme.py`."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_the_figures_of_the_records(tool):
    page = tool.README.read_text()
    assert tool.figures() in page, "run: make readme"
    assert len(page.splitlines()) <= 150


def test_the_picture_shows_the_figures_of_the_records(tool):
    picture = sys.modules["readme_picture"]
    text = picture.PICTURE.read_text()
    shown = json.loads(re.search("<dc:description>(.*)</dc:description>", text)[1])
    assert shown == json.loads(json.dumps(picture.points())), "run: make readme"
    assert re.search("<dc:description>(.*)</dc:description>", picture.svg(picture.points()))
