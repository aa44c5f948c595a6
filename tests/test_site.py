"""What the site is built from: pages with links that work there, and the tutorial as a page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The module `tools/site.py`, writing into an empty folder."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "tools" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OUT", tmp_path)
    return module


def test_every_page_of_the_menu_is_made_and_every_made_page_of_the_docs_is_in_the_menu(site, tmp_path):
    site.main()
    menu = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert menu <= made
    assert {name for name in made if name.startswith("docs/")} <= menu


def test_links_lead_to_copies_and_lists(site, tmp_path):
    page = ROOT / "docs" / "page.md"
    text = (
        "[record](../benchmarks/results/scaling.json), [profiles](../src/tbft/metering/profiles), [x](y.md)"
    )
    linked = site.with_links(page, text, {page})
    assert "(../src/tbft/metering/profiles/index.md)" in linked and "(y.md)" in linked
    assert (tmp_path / "benchmarks/results/scaling.json").is_file()
    assert "raspberry-pi-5.json" in (tmp_path / "src/tbft/metering/profiles/index.md").read_text()
    tutorial = site.with_links(ROOT / "README.md", "[m](examples/tutorial_motion.py)", {page})
    assert tutorial == "[m](docs/tutorials/motion.md)"


def test_a_script_in_percent_format_becomes_a_page(site):
    page = site.as_page("# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nx = 1\n\n# %%\n")
    assert page == "# Title\n\nWords.\n\n\n```python\nx = 1\n```\n"


def test_a_package_index_gets_a_readme_without_relative_links():
    spec = importlib.util.spec_from_file_location("absolute_links", ROOT / "tools" / "absolute_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.absolute((ROOT / "README.md").read_text(), "https://host/owner/name", "v1")
    targets = re.findall(r"\]\(([^)\s]+)\)", page)
    assert "https://host/owner/name/raw/v1/docs/img/accuracy_against_cost.svg" in targets
    assert "https://host/owner/name/blob/v1/docs/acceptance.md" in targets
    assert all(target.startswith("https://") for target in targets)
