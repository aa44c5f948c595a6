"""The figures and the picture of the README come from the records."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def loaded(name):
    """A module in `tools/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool():
    """The module `tools/readme.py`."""
    return loaded("readme")


def test_the_readme_shows_the_figures_of_the_records(tool):
    page = tool.README.read_text()
    assert tool.figures() in page, "run: make readme"
    assert len(page.splitlines()) <= 150


def test_every_table_that_is_made_from_records_is_that_of_the_records(tool):
    for path, made in tool.pages():
        assert path.read_text() == made, f"{path.name}: run: make readme"
    assert tool.TABLES.read_text().count("<!-- made by") == len(tool.figure_tables())


def quotes() -> Iterator[tuple[str, str]]:
    """Page and words of figures in sentences and in tables written by hand, as the records have them."""
    record = loaded("figures").record
    selectors = record("selector_regret")["selectors"]
    regret, share = selectors["tbft"]["mean_regret"], 100 * selectors["tbft"]["cpu_share"]
    yield (
        "docs/diagnosis.md",
        f"{regret['2']:.1f} points with 2 labels per class, {regret['10']:.1f} with 10, and "
        f"{regret['100']:.1f} with 100, for {share:.1f} % of the cost",
    )
    for name, row in selectors.items():
        cells = [f"{row['mean_regret'].get(n, math.nan):.2f}" for n in ("2", "5", "10", "100")]
        cells += [f"{row['worst_harm']:.1f}", f"{100 * row['cpu_share']:.1f} %", str(row["cells"])]
        yield "docs/choice-record.md", f"{name} | " + " | ".join(cells).replace("nan", "-")
    for run in record("meter_overhead")["runs"]:
        if run["period_seconds"] > 0.01 and run["sensor"] != "none":
            yield "docs/energy.md", f"{100 * run['share']:.2f} % "


@pytest.mark.parametrize(("page", "quote"), list(quotes()))
def test_a_page_quotes_a_record(page, quote):
    text = " ".join((ROOT / page).read_text().replace("**", "").split())
    assert quote in text


def test_the_picture_shows_the_figures_of_the_records(tool):
    picture = sys.modules["readme_picture"]
    text = picture.PICTURE.read_text()
    shown = json.loads(re.search("<dc:description>(.*)</dc:description>", text)[1])
    assert shown == json.loads(json.dumps(picture.points())), "run: make readme"
    assert re.search("<dc:description>(.*)</dc:description>", picture.svg(picture.points()))
